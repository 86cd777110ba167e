/**
 * A libvirt domain for the demo and the bench: QEMU runs, and its disks are open and written to, but its processor is paused, because there is
 * no operating system on it. What a guest would write, the monitor's `qemu-io` writes, through the same block layer.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import type { PrivateLibvirt } from './private-libvirt.ts'

export interface LiveDomain {
  uuid: string
  name: string
  /** A command of `qemu-io` on one disk: `write -P 0x11 0 4M`. Returns what it said, with how long it took; `INTERNAL` with its words when it fails. */
  writeDisk(diskIndex: number, command: string): Promise<string>
}

/** Defines and starts a domain whose QCOW2 disks are `vda`, `vdb` …, in this order. Software emulation: it needs no `/dev/kvm`. */
export async function startLiveDomain(libvirt: PrivateLibvirt, name: string, diskPaths: readonly string[]): Promise<LiveDomain> {
  const uuid = randomUUID()
  const folder = join(libvirt.folder, 'domains')
  await mkdir(folder, { recursive: true })
  const definition = join(folder, `${name}.xml`)
  await writeFile(definition, domainXml(uuid, name, diskPaths))
  await libvirt.ask('define', definition)
  await libvirt.ask('start', uuid, '--paused')
  return {
    uuid,
    name,
    writeDisk: async (diskIndex, command) => {
      const said = (await qemuIo(libvirt, { uuid, name }, diskIndex, command)).trim()
      if (!/^(wrote|discard) (\d+)\/\2 bytes/m.test(said))
        throw new HoldfastError('INTERNAL', `Disk ${diskIndex} of ${name} refused "${command}": ${said}`)
      return said
    },
  }
}

/**
 * Runs a `qemu-io` command on a virtio disk of a running domain: `write -P 0x11 0 4M`. Returns what it said. The monitor calls everything a
 * success: what `qemu-io` says, also of its failures, it says on QEMU's own output, which is libvirt's log.
 */
export async function qemuIo(
  libvirt: PrivateLibvirt,
  domain: { uuid: string; name: string },
  diskIndex: number,
  command: string,
): Promise<string> {
  const device = `/machine/peripheral/virtio-disk${diskIndex}/virtio-backend`
  const log = join(libvirt.folder, 'log/qemu', `${domain.name}.log`)
  const before = (await readFile(log)).length
  const answer = await libvirt.ask('qemu-monitor-command', domain.uuid, '--hmp', `qemu-io -d ${device} "${command}"`)
  return answer + (await readFile(log)).subarray(before).toString()
}

/** Names and paths are our own, so nothing in them needs escaping. */
function domainXml(uuid: string, name: string, diskPaths: readonly string[]): string {
  const disks = diskPaths.map(
    (path, index) =>
      `<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='${path}'/><target dev='vd${'abcdef'[index]}' bus='virtio'/></disk>`,
  )
  return `<domain type='qemu'><name>${name}</name><uuid>${uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices>${disks.join('\n')}<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>
`
}
