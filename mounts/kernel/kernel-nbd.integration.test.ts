/** This host's kernel need not have network block devices: one in a process has. */
import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { backUpImage, MIB, noise, writeImage } from '../../test/disk-backups.ts'
import { failureOf } from '../../test/failure.ts'
import { requireTool } from '../../test/requires.ts'
import { temporaryFolder } from '../../test/temporary-folder.ts'
import { runInUml } from '../../test/uml-machine.ts'
import { runTool } from '../../tools/run-tool.ts'
import { openKernelNbdMount } from './open-kernel-nbd-mount.ts'

for (const program of ['linux.uml', 'qemu-nbd', 'mkfs.ext4']) requireTool(program)

const SIZE_BYTES = 96 * MIB
const content = noise(40 * MIB + 5, 3)

/** Opens, reads and closes a mount in the machine; opens one more, and kills its server in the middle of a file. Prints what came of it. */
function program(folder: string): string {
  const sources = new URL('../..', import.meta.url).pathname
  return `
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { openKernelNbdMount } from '${sources}mounts/kernel/open-kernel-nbd-mount.ts'

const links = JSON.parse(readFileSync('${folder}/links.json', 'utf8'))
const device = () => ({ size: readFileSync('/sys/block/nbd0/size', 'utf8').trim(), mounts: readFileSync('/proc/mounts', 'utf8').includes('${folder}/run'), folders: readdirSync('${folder}/run') })
const open = (mountId) => openKernelNbdMount({ mountId, links }, { runFolder: '${folder}/run' })

const mount = await open('first')
const [volume] = mount.reader.volumes
const hash = createHash('sha256')
for await (const piece of mount.reader.read(volume, 'content', { offset: 0, length: 2 ** 40 })) hash.update(piece)
const read = { device: mount.device, volumes: mount.reader.volumes.map(({ id, state }) => [id, state]), sha256: hash.digest('hex') }
const second = await open('second')
const both = second.device
await Promise.all([mount.close(), second.close()])
const closed = device()

const killed = await open('killed')
const reading = killed.reader.read(volume, 'content', { offset: 0, length: 2 ** 40 })
await reading.next()
process.kill(Number(/proc.(\\d+)/.exec(killed.folder)[1]), 'SIGKILL')
let error = 'none'
try {
  for await (const piece of reading) if (piece.length === 0) break
} catch (reason) {
  error = reason.code
}
const failed = (await killed.failed).code
console.log(JSON.stringify({ read, both, closed, error, failed, after: device() }))
process.exit(0)
`
}

it('reads through a network block device, frees it, and ends with its server', async () => {
  const folder = await temporaryFolder()
  const imagePath = join(folder, 'disk.raw')
  await writeImage(imagePath, SIZE_BYTES, [])
  await writeFile(join(folder, 'content'), content)
  await runTool('mkfs.ext4', ['-q', '-F', imagePath], { timeoutMs: 30_000 })
  await runTool('debugfs', ['-w', '-R', `write ${join(folder, 'content')} content`, imagePath], { timeoutMs: 30_000 })
  const { links } = await backUpImage({ folder: join(folder, 'backups'), backupId: 'full', imagePath, sizeBytes: SIZE_BYTES })
  await writeFile(join(folder, 'links.json'), JSON.stringify(links))
  await writeFile(join(folder, 'program.mjs'), program(folder))
  const script = `load nbd; load loop; load fuse; mkdir ${folder}/run; '${process.execPath}' '${folder}/program.mjs'`
  const printed = await runInUml({ script, disks: [], folder, timeoutMs: 150_000, memoryMib: 768 })
  const free = { size: '0', mounts: false, folders: [] }
  expect(JSON.parse(printed.trim().split('\n').at(-1)!)).toEqual({
    read: {
      device: '/dev/nbd0',
      volumes: [['disk', 'readable']],
      sha256: createHash('sha256').update(content).digest('hex'),
    },
    both: '/dev/nbd1',
    closed: free,
    error: 'MOUNT_INTERRUPTED',
    failed: 'MOUNT_INTERRUPTED',
    after: free,
  })
})

it('says what a host without network block devices lacks', async ({ skip }) => {
  const runFolder = await temporaryFolder()
  const listed = await runTool('ls', ['/sys/block'], { timeoutMs: 10_000 })
  if (/^nbd/m.test(listed.stdout)) skip('this host has network block devices')
  const error = await failureOf(openKernelNbdMount({ mountId: 'mount', links: [] }, { runFolder }))
  expect(error).toMatchObject({ code: 'MOUNT_DRIVER_UNAVAILABLE', message: expect.stringContaining('kernel module "nbd"') })
})
