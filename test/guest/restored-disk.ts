/** Judging a restored disk by its file system. */
import { runTool } from '../../tools/run-tool.ts'
import { checkLoad } from './load.ts'

/** Fails when the check finds anything, a journal that would have to be replayed included. Changes nothing. */
export async function checkFileSystem(rawPath: string): Promise<void> {
  await runTool('/sbin/e2fsck', ['-f', '-n', rawPath], { timeoutMs: 60_000 })
}

/**
 * Mounts the disk and compares the load's files with what they must hold. `ro`: the loop device is read-only too, so the kernel refuses a file
 * system with a journal to replay; `rw` lets it replay. The mount lives in a namespace of its own and ends with it.
 */
export async function filesOn(rawPath: string, mode: 'ro' | 'rw'): Promise<{ right: number[]; wrong: number[] }> {
  const script = 'set -e; mkdir "$1.mnt"; mount -o "loop,$2" "$1" "$1.mnt"; cp -r "$1.mnt/files" "$1.files"; umount "$1.mnt"'
  await runTool('unshare', ['--mount', 'sh', '-c', script, 'sh', rawPath, mode], { timeoutMs: 60_000 })
  return checkLoad(`${rawPath}.files`)
}
