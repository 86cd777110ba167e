/**
 * The demo's VM: two disks made from real files.
 *
 * Disk 0 has a GPT and one ext4 partition; disk 1 is 8 GiB, mostly empty, with an MBR and two partitions. Of each there is a raw `truth`
 * image: what a guest would see. It is changed first; the VM's platform brings the disk that is backed up to the same content.
 */
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool } from '../../tools/run-tool.ts'
import { editExt4, makeExt4, overwriteExt4File } from './ext4.ts'
import type { Ext4Partition } from './ext4.ts'
import { copyRealFiles, incompressibleBytes, logText, writeTreeFile } from './file-tree.ts'

const MIB = 1024 ** 2
const GIB = 1024 ** 3

export interface DemoVm {
  name: string
  disks: [system: DemoDisk, data: DemoDisk]
  files: number
  fileBytes: number
}

export interface DemoDisk {
  index: number
  layout: string
  sizeBytes: number
  /** Raw image of what a guest sees. */
  truth: string
  root: Ext4Partition
}

export interface DemoChange {
  description: string
  bytes: number
}

export async function buildDemoVm(folder: string): Promise<DemoVm> {
  await mkdir(folder, { recursive: true })
  const system = await buildSystemDisk(folder)
  const data = await buildDataDisk(folder)
  return {
    name: 'demo-web-01',
    disks: [system.disk, data.disk],
    files: system.files + data.files,
    fileBytes: system.bytes + data.bytes,
  }
}

async function buildSystemDisk(folder: string): Promise<{ disk: DemoDisk; files: number; bytes: number }> {
  const tree = join(folder, 'tree-0')
  const real = await copyRealFiles(tree, { filesMax: 6000, bytesMax: 300 * MIB })
  await writeTreeFile(tree, 'srv/database.bin', incompressibleBytes(192 * MIB, 7))
  await writeTreeFile(tree, 'var/log/web.log', logText(800_000))
  await writeTreeFile(tree, 'srv/secret-plan.bin', incompressibleBytes(24 * MIB, 9))
  await writeTreeFile(tree, 'etc/motd', 'first light\n')

  const truth = join(folder, 'disk-0.raw')
  const root = await partitionDisk(truth, 2 * GIB, 'label: gpt\nstart=2048, type=linux, name=root\n', 1 * MIB)
  await makeExt4(root, tree, 'root')
  await rm(tree, { recursive: true })
  const disk: DemoDisk = { index: 0, layout: 'GPT, ext4', sizeBytes: 2 * GIB, truth, root }
  return { disk, files: real.files + 4, bytes: real.bytes + 300 * MIB }
}

async function buildDataDisk(folder: string): Promise<{ disk: DemoDisk; files: number; bytes: number }> {
  const tree = join(folder, 'tree-1')
  for (let order = 0; order < 400; order += 1) {
    await writeTreeFile(tree, `orders/2026/order-${order}.json`, JSON.stringify({ order, total: order * 19, state: 'paid' }))
  }
  await writeTreeFile(tree, 'photos/roof.raw', incompressibleBytes(48 * MIB, 3))

  const truth = join(folder, 'disk-1.raw')
  const layout = 'label: dos\nstart=2048, size=4194304, type=83\nstart=4196352, size=2097152, type=82\n'
  const root = await partitionDisk(truth, 8 * GIB, layout, 1 * MIB, 2 * GIB)
  await makeExt4(root, tree, 'data')
  await rm(tree, { recursive: true })

  const disk: DemoDisk = { index: 1, layout: 'MBR, ext4 and swap, mostly empty', sizeBytes: 8 * GIB, truth, root }
  return { disk, files: 401, bytes: 48 * MIB }
}

/** What happens to the VM while its full backup is being taken: a database overwrites its own pages. Returns the bytes written. */
export async function overwriteDatabase(vm: DemoVm): Promise<number> {
  return overwriteExt4File(vm.disks[0].root, '/srv/database.bin', incompressibleBytes(16 * MIB, 11))
}

/** What happens to the VM between the two backups. */
export async function changeDemoVm(folder: string, vm: DemoVm): Promise<DemoChange[]> {
  const [system, data] = vm.disks
  const report = join(folder, 'report.bin')
  const motd = join(folder, 'motd')
  await writeFile(report, incompressibleBytes(6 * MIB, 21))
  await writeFile(motd, 'second light\n')

  await editExt4(system.root, [`write ${report} /srv/report-q4.bin`])
  await editExt4(system.root, ['rm /var/log/web.log'])
  await editExt4(system.root, ['rm /etc/motd', `write ${motd} /etc/motd`])
  const zeroed = await overwriteExt4File(system.root, '/srv/secret-plan.bin', Buffer.alloc(24 * MIB))
  await editExt4(data.root, ['rm /orders/2026/order-7.json', `write ${motd} /orders/2026/note.txt`])
  return [
    { description: 'disk 0: /srv/report-q4.bin is new', bytes: 6 * MIB },
    { description: 'disk 0: /etc/motd is rewritten', bytes: 13 },
    { description: 'disk 0: /var/log/web.log is deleted', bytes: 0 },
    { description: 'disk 0: /srv/secret-plan.bin is overwritten with zeroes', bytes: zeroed },
    { description: 'disk 1: one order is deleted, a note is new', bytes: 13 },
  ]
}

/** A raw copy of every disk as it is now, to compare a restore with later; sparse, and shared with the original where the file system can. */
export async function keepTruth(vm: DemoVm, folder: string): Promise<string[]> {
  await mkdir(folder, { recursive: true })
  return Promise.all(
    vm.disks.map(async (disk) => {
      const copy = join(folder, `disk-${disk.index}.raw`)
      await runTool('cp', ['--sparse=always', '--reflink=auto', disk.truth, copy], { timeoutMs: 600_000 })
      return copy
    }),
  )
}

async function partitionDisk(
  image: string,
  sizeBytes: number,
  layout: string,
  offsetBytes: number,
  partitionBytes?: number,
): Promise<Ext4Partition> {
  await writeFile(image, '')
  await truncate(image, sizeBytes)
  await runTool('/sbin/sfdisk', ['--quiet', image], { timeoutMs: 60_000, input: layout })
  // GPT keeps its second copy in the last 33 sectors; stay a MiB away from it.
  return { image, offsetBytes, sizeBytes: partitionBytes ?? sizeBytes - offsetBytes - MIB }
}
