/** A small ext4 of its own on a loop device: somewhere to lock files for real, and to get rid of them whatever a test left locked. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool } from '../tools/run-tool.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface SmallExt4 {
  /** Where it is mounted. */
  path: string
  remove(): Promise<void>
}

/** Needs root. Call `remove` in `afterAll`. */
export async function createSmallExt4(sizeMib = 64): Promise<SmallExt4> {
  const folder = await createTemporaryFolder()
  const image = join(folder.path, 'image')
  const path = join(folder.path, 'mounted')
  try {
    await mkdir(path)
    await runTool('truncate', [`--size=${sizeMib}M`, image], { timeoutMs: 10_000 })
    await runTool('mkfs.ext4', ['-q', '-F', image], { timeoutMs: 30_000 })
    await runTool('mount', ['-o', 'loop', image, path], { timeoutMs: 30_000 })
  } catch (error) {
    await folder.remove()
    throw error
  }
  return {
    path,
    async remove() {
      // What is locked in it goes with its image, whose own file nobody locked.
      await runTool('umount', ['--lazy', path], { timeoutMs: 30_000 })
      await folder.remove()
    },
  }
}
