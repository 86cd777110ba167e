/** Makes and changes ext4 file systems inside image files without mounting them: no privileges, nothing to clean up. */
import { open } from 'node:fs/promises'
import { runTool } from '../../tools/run-tool.ts'

const BLOCK_BYTES = 4096

/** A file system inside a raw image. */
export interface Ext4Partition {
  image: string
  offsetBytes: number
  sizeBytes: number
}

/** Formats the partition and fills it with everything below `folder`. */
export async function makeExt4(partition: Ext4Partition, folder: string, label: string): Promise<void> {
  const extended = `offset=${partition.offsetBytes},root_owner=0:0,hash_seed=6a1a6d1e-0000-4000-8000-000000000001`
  const blocks = String(Math.floor(partition.sizeBytes / BLOCK_BYTES))
  const options = ['-q', '-F', '-t', 'ext4', '-b', String(BLOCK_BYTES), '-m', '0', '-L', label, '-E', extended, '-d', folder]
  await runTool('/sbin/mke2fs', [...options, partition.image, blocks], { timeoutMs: 300_000 })
}

/** Runs debugfs commands that change the file system, as a guest would: `rm`, `write`. */
export async function editExt4(partition: Ext4Partition, commands: readonly string[]): Promise<void> {
  await runTool('/sbin/debugfs', ['-w', '-f', '-', at(partition)], {
    timeoutMs: 120_000,
    input: `${commands.join('\n')}\nquit\n`,
  })
}

/** One file's content, or `null` when it is not there. */
export async function readExt4File(partition: Ext4Partition, path: string): Promise<string | null> {
  const { stdout } = await runTool('/sbin/debugfs', ['-R', `cat ${path}`, at(partition)], { timeoutMs: 60_000 })
  return stdout === '' ? null : stdout
}

/** Copies a file out of the file system. */
export async function copyExt4File(partition: Ext4Partition, path: string, target: string): Promise<void> {
  await runTool('/sbin/debugfs', ['-R', `dump ${path} ${target}`, at(partition)], { timeoutMs: 120_000 })
}

/** Names in one folder. */
export async function listExt4Folder(partition: Ext4Partition, path: string): Promise<string[]> {
  const { stdout } = await runTool('/sbin/debugfs', ['-R', `ls -p ${path}`, at(partition)], { timeoutMs: 60_000 })
  // Each line reads /inode/mode/uid/gid/name/size/
  return stdout
    .split('\n')
    .map((line) => line.split('/')[5] ?? '')
    .filter((name) => name !== '' && name !== '.' && name !== '..')
}

/**
 * Overwrites a file's last blocks where they lie, as databases and `shred` do, with `content`, a whole number of blocks. What is more than
 * the file holds is left out. Returns the bytes written.
 */
export async function overwriteExt4File(partition: Ext4Partition, path: string, content: Buffer): Promise<number> {
  const { stdout } = await runTool('/sbin/debugfs', ['-R', `blocks ${path}`, at(partition)], { timeoutMs: 60_000 })
  const blocks = stdout.trim().split(/\s+/).map(Number).filter(Number.isSafeInteger)
  const last = blocks.slice(-content.length / BLOCK_BYTES)
  const file = await open(partition.image, 'r+')
  try {
    for (const [index, block] of last.entries())
      await file.write(content, index * BLOCK_BYTES, BLOCK_BYTES, partition.offsetBytes + block * BLOCK_BYTES)
  } finally {
    await file.close()
  }
  return last.length * BLOCK_BYTES
}

/** Checks the file system read-only with e2fsck, which cannot be told an offset: the partition is cut out by the caller. Throws when it is not clean. */
export async function checkExt4(image: string): Promise<void> {
  await runTool('/sbin/e2fsck', ['-f', '-n', image], { timeoutMs: 300_000 })
}

function at(partition: Ext4Partition): string {
  return `${partition.image}?offset=${partition.offsetBytes}`
}
