/** A file with a place that cannot be read, as on a bad disk or a share that is going away: by FUSE, so that the kernel itself says so. */
import { rename, stat, writeFile } from 'node:fs/promises'
import { expect, onTestFinished, vi } from 'vitest'
import { runTool, startTool } from '../tools/run-tool.ts'

/** From now on, until the running test ends, every read of the file beyond `offset` fails. Needs `nbdfuse`, `nbdkit` and `fusermount3`. */
export async function failBeyond(path: string, offset: number): Promise<void> {
  const sound = `${path}.sound`
  await rename(path, sound)
  await writeFile(path, '')
  const pread = `[ $(($3 + $4)) -gt ${offset} ] && { echo EIO >&2; exit 1; }; dd if="${sound}" iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none`
  const plugin = ['nbdkit', '-s', '--exit-with-parent', 'eval', `get_size=stat -c %s "${sound}"`, `pread=${pread}`]
  const fuse = startTool('nbdfuse', [path, '--command', ...plugin])
  onTestFinished(async () => {
    await runTool('fusermount3', ['-u', '-z', path], { timeoutMs: 10_000 })
    await fuse.stop(5_000)
  })
  await vi.waitFor(async () => expect((await stat(path)).size).toBeGreaterThan(0), { timeout: 60_000, interval: 20 })
}
