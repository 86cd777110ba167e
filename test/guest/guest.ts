/**
 * A domain that runs a real Linux, which writes numbered files to an ext4 disk and says when each is there for good; with the guest agent.
 * The processor is emulated: `/dev/kvm` may exist and yet not start a kernel.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool } from '../../tools/run-tool.ts'
import type { PrivateLibvirt } from '../private-libvirt.ts'
import { GuestAgent } from './agent.ts'
import { GuestConsole } from './console.ts'
import { kernelPath } from './guest-files.ts'

export const GUEST_DISK_BYTES = 256 * 1024 * 1024

export interface Guest {
  uuid: string
  name: string
  /** QCOW2. */
  diskPath: string
  console: GuestConsole
  /** `virsh` on it: the UUID follows the first word. */
  ask(command: string, ...rest: string[]): Promise<string>
  agent: GuestAgent
  /** In the guest. */
  agentPid(): Promise<number>
}

export interface GuestOptions {
  name: string
  /** See {@link buildInitramfs}. */
  initramfs: string
  /** Default `true`. */
  agent?: boolean
}

/** Starts one; resolves when its load writes. Ends with its libvirt. */
export async function startGuest(libvirt: PrivateLibvirt, options: GuestOptions): Promise<Guest> {
  const folder = join(libvirt.folder, options.name)
  await mkdir(folder)
  const uuid = randomUUID()
  const diskPath = join(folder, 'disk.qcow2')
  await makeDisk(folder, diskPath)
  const console = new GuestConsole(join(folder, 'console.log'))
  const definition = join(folder, 'domain.xml')
  await writeFile(definition, domainXml({ ...options, uuid, diskPath, consolePath: console.path }))
  await libvirt.ask('define', definition)
  await libvirt.ask('start', uuid)
  await console.awaits(/synced 3 in/)

  return {
    uuid,
    name: options.name,
    diskPath,
    console,
    ask: (command, ...rest) => libvirt.ask(command, uuid, ...rest),
    agent: new GuestAgent(libvirt, uuid),
    agentPid: async () => Number((await console.awaits(/agent runs as (\d+)/))[1]),
  }
}

async function makeDisk(folder: string, diskPath: string): Promise<void> {
  const raw = join(folder, 'disk.raw')
  await runTool('/sbin/mke2fs', ['-q', '-t', 'ext4', raw, String(GUEST_DISK_BYTES / 1024)], { timeoutMs: 60_000 })
  await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, diskPath], { timeoutMs: 60_000 })
  await runTool('rm', [raw], { timeoutMs: 10_000 })
}

interface DomainParts extends GuestOptions {
  uuid: string
  diskPath: string
  consolePath: string
}

function domainXml({ uuid, name, initramfs, diskPath, consolePath, agent = true }: DomainParts): string {
  return `<domain type='qemu'><name>${name}</name><uuid>${uuid}</uuid><memory unit='MiB'>160</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>${kernelPath()}</kernel><initrd>${initramfs}</initrd>
<cmdline>console=ttyS0 quiet panic=-1 holdfast.mode=load holdfast.agent=${agent ? 'on' : 'off'}</cmdline></os>
<features><acpi/></features><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='${diskPath}'/><target dev='vda' bus='virtio'/></disk>
<serial type='file'><source path='${consolePath}'/><target port='0'/></serial>
<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>`
}
