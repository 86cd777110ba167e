/** What an administrator would do by hand: the exported disk as a loop device, its file system mounted, and `cat`. Prints how long that took. */
import { join } from 'node:path'
import { openRoom } from '../../mounts/room.ts'
import { runTool } from '../../tools/run-tool.ts'
import { stepArgument } from './step-input.ts'
import type { MountStep, MountTimes } from './step-input.ts'

const MIB = 1024 ** 2
const CAT_MS = 900_000

const step: MountStep = JSON.parse(stepArgument)
const folder = join(step.runFolder, 'by-hand')
const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
const room = await openRoom({ links: step.links, folder, tmpfsBytes: MIB, owner })
try {
  // The mount is of this shell's own namespace, and goes with it.
  const script = 'mkdir mnt; mount -o loop,ro,noload disk mnt; date +%s.%N; cat "mnt/$1" > /dev/null; date +%s.%N; umount mnt'
  const own = ['--mount', '--propagation', 'private', `--wd=${room.folder}`, '--', 'sh', '-ec', script, 'sh', step.read ?? '']
  const { stdout } = await runTool(...room.enter('unshare', own), { timeoutMs: CAT_MS })
  const [before = Number.NaN, after = Number.NaN] = stdout.trim().split('\n').map(Number)
  const times: MountTimes = { firstListing: 0, page: null, read: after - before }
  console.log(JSON.stringify(times))
} finally {
  await room.close()
}
