/** A disk of its own for a repository: ext4 in a file, mounted over a loop device. Small enough to be filled. Needs root. */
import { mkdir, statfs, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { runTool } from '../tools/run-tool.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

const TIMEOUT_MS = 30_000

export interface SmallDisk {
  /** Where it is mounted. */
  path: string
  /** Takes every free block, those that are kept for root too, with a file `filler`. Returns its path. */
  fill(): Promise<string>
  /** Out of sight at once, as a disk that was pulled: who has a file open may still write to it. */
  unmount(): Promise<void>
  mount(): Promise<void>
  /** Unmounts, and removes every trace. */
  remove(): Promise<void>
}

export async function createSmallDisk(sizeBytes: number): Promise<SmallDisk> {
  const folder = await createTemporaryFolder()
  const [image, path] = [join(folder.path, 'disk.img'), join(folder.path, 'disk')]
  const run = async (program: string, ...args: string[]): Promise<string> =>
    (await runTool(program, args, { timeoutMs: TIMEOUT_MS })).stdout.trim()
  let device = ''
  const mount = async (): Promise<void> => {
    await run('mount', device, path)
    // A fiftieth that ext4 keeps for itself, from root too: a full disk shall be full.
    await writeFile(`/sys/fs/ext4/${basename(device)}/reserved_clusters`, '0')
  }
  const unmount = async (): Promise<void> => void (await run('umount', '--lazy', path))
  const remove = async (): Promise<void> => {
    // What is not mounted, or never was, is as good.
    await unmount().catch(() => undefined)
    if (device !== '') await run('losetup', '--detach', device)
    await folder.remove()
  }
  try {
    await mkdir(path)
    await run('truncate', '--size', String(sizeBytes), image)
    await run('mkfs.ext4', '-q', '-F', image)
    device = await run('losetup', '--find', '--show', image)
    await mount()
  } catch (error) {
    await remove()
    throw error
  }
  return {
    path,
    mount,
    unmount,
    fill: () => fillFileSystem(path),
    remove,
  }
}

/** In halves, quickly: a backup that runs must not be done before its disk is full. */
async function fillFileSystem(folder: string): Promise<string> {
  const path = join(folder, 'filler')
  let offset = 0
  let { bfree, bsize } = await statfs(folder)
  for (let length = bfree * bsize; bfree > 0 && length >= 512; { bfree, bsize } = await statfs(folder)) {
    const args = ['--offset', String(offset), '--length', String(length), path]
    const taken = await runTool('fallocate', args, { timeoutMs: TIMEOUT_MS }).then(
      () => true,
      () => false,
    )
    if (taken) offset += length
    else length = Math.floor(length / 2)
  }
  return path
}
