/**
 * Domains of a test: QEMU with real disks under a private libvirtd, and no operating system. The processor is paused from the start; what a
 * guest would do to its disks is done by QEMU's own `qemu-io` through the monitor, so that checkpoints and backups see it as the guest's.
 */
import { randomUUID } from 'node:crypto'
import { access, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { qemuIo } from '../dev/live-domain.ts'
import { escapeXml } from '../sources/libvirt/xml-nodes.ts'
import type { PrivateLibvirt } from './private-libvirt.ts'
import { runTool } from '../tools/run-tool.ts'

export interface TestDiskOptions {
  sizeBytes: number
  /** Default `qcow2`. */
  format?: 'qcow2' | 'raw' | undefined
  /** Absolute; default below the libvirt's folder. An image that exists is used as it is. */
  path?: string | undefined
  /** Inside `<disk>`, for example `<readonly/>`. */
  extraXml?: string | undefined
}

export interface TestDomainOptions {
  name?: string
  disks: readonly TestDiskOptions[]
  /** Default: defined and running (processor paused). `transient`: running without a definition. */
  state?: 'running' | 'off' | 'transient'
  /** Inside `<devices>`: drives, channels … */
  devicesXml?: string
  /** Beside `<devices>`. */
  extraXml?: string
}

export interface TestDisk {
  target: string
  path: string
  format: string
}

/** The channel of QEMU's guest agent. Nobody answers on it, because there is no guest. */
export const agentChannelXml =
  "<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"

const TARGETS = 'abcdefghijklmnopqrstuvwxyz'
let count = 0

export class TestDomain {
  readonly libvirt: PrivateLibvirt
  readonly uuid = randomUUID()
  readonly name: string
  readonly folder: string
  disks: TestDisk[] = []
  private readonly options: TestDomainOptions

  constructor(libvirt: PrivateLibvirt, options: TestDomainOptions) {
    this.libvirt = libvirt
    this.options = options
    this.name = options.name ?? `domain-${(count += 1)}`
    this.folder = join(libvirt.folder, 'disks', this.uuid.slice(0, 8))
  }

  /** What the catalog keeps of it. */
  get config(): { uuid: string } {
    return { uuid: this.uuid }
  }

  /** As written for `define`; the disks as they are now. */
  xml(): string {
    const { devicesXml = '', extraXml = '' } = this.options
    const disks = this.disks.map((disk, index) => diskXml(disk, this.options.disks[index]?.extraXml))
    return `<domain type='qemu'><name>${escapeXml(this.name)}</name><uuid>${this.uuid}</uuid>
<memory unit='MiB'>64</memory><vcpu>2</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>${extraXml}
<devices>${disks.join('')}<controller type='usb' model='none'/><memballoon model='none'/>${devicesXml}</devices></domain>`
  }

  /** `virsh` on this domain: the UUID follows the first word. */
  ask(command: string, ...rest: string[]): Promise<string> {
    return this.libvirt.ask(command, this.uuid, ...rest)
  }

  async define(): Promise<void> {
    await this.libvirt.ask('define', await this.xmlFile())
  }

  async start(): Promise<void> {
    await this.ask('start', '--paused')
  }

  async createTransient(): Promise<void> {
    await this.libvirt.ask('create', await this.xmlFile(), '--paused')
  }

  /** QEMU ends in order and writes its bitmaps, as after a guest's shutdown. */
  async shutDown(): Promise<void> {
    await this.ask('destroy', '--graceful')
  }

  /** QEMU is killed, as by a crash. Resolves when libvirt has noticed. */
  async crash(): Promise<void> {
    process.kill(await this.pid(), 'SIGKILL')
    for (const deadline = Date.now() + 20_000; Date.now() < deadline;) {
      const state = await this.ask('domstate').catch(() => 'gone')
      if (/shut off|crashed|gone/.test(state)) return
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    throw new Error(`libvirt did not notice that ${this.name} crashed`)
  }

  pid(): Promise<number> {
    return this.libvirt.pidOf(this.name)
  }

  /** Runs a `qemu-io` command on a disk of the running domain: `write -P 0x11 0 4M`, `discard 0 1M`. Paths in it must not hold spaces. */
  async qemuIo(disk: number, command: string): Promise<string> {
    const said = await qemuIo(this.libvirt, this, disk, command)
    if (/error|failed|invalid|out of range/i.test(said)) throw new Error(`qemu-io ${command}: ${said.trim()}`)
    return said
  }

  /** What QEMU has printed. */
  log(): Promise<string> {
    return readFile(join(this.libvirt.folder, 'log/qemu', `${this.name}.log`), 'utf8')
  }

  async write(disk: number, offset: number, data: Buffer): Promise<void> {
    const pattern = join(this.libvirt.folder, `pattern-${randomUUID()}`)
    await writeFile(pattern, data)
    await this.qemuIo(disk, `write -s ${pattern} ${offset} ${data.length}`)
    await rm(pattern)
  }

  async zero(disk: number, offset: number, length: number): Promise<void> {
    await this.qemuIo(disk, `write -z -u ${offset} ${length}`)
  }

  async discard(disk: number, offset: number, length: number): Promise<void> {
    await this.qemuIo(disk, `discard ${offset} ${length}`)
  }

  /** What the guest sees, read without its checkpoints and backups: from the image file, after QEMU has written everything to it. */
  async content(disk: number): Promise<Buffer> {
    const { path, format } = this.disk(disk)
    const copy = join(this.libvirt.folder, `content-${randomUUID()}`)
    if (await this.isRunning()) await this.qemuIo(disk, 'flush')
    // The name as an option and not as a word: it may hold anything.
    const image = `json:${JSON.stringify({ driver: format, file: { driver: 'file', filename: path } })}`
    await runTool('qemu-img', ['convert', '-U', '-O', 'raw', image, copy], { timeoutMs: 60_000 })
    const content = await readFile(copy)
    await rm(copy)
    return content
  }

  async isRunning(): Promise<boolean> {
    return !(await this.ask('domstate')).includes('shut off')
  }

  /** Plugged into the running domain, and kept in its definition. */
  async addDisk(options: TestDiskOptions): Promise<TestDisk> {
    const disk = await this.makeDisk(options)
    const file = join(this.folder, 'added.xml')
    await writeFile(file, diskXml(disk, options.extraXml))
    const where = (await this.isRunning()) ? ['--live', '--config'] : ['--config']
    await this.ask('attach-device', file, ...where)
    return disk
  }

  async growDisk(disk: number, sizeBytes: number): Promise<void> {
    const { target, path, format } = this.disk(disk)
    if (await this.isRunning()) await this.ask('blockresize', target, `${sizeBytes}B`)
    else await runTool('qemu-img', ['resize', '-q', '-f', format, path, String(sizeBytes)], { timeoutMs: 60_000 })
  }

  /** Stopped, forgotten, and its disks removed. Idempotent. */
  async destroy(): Promise<void> {
    await this.ask('destroy').catch(() => undefined)
    await this.ask('undefine', '--checkpoints-metadata', '--snapshots-metadata').catch(() => undefined)
    for (const { path } of this.disks) await rm(path, { force: true })
  }

  /** What backups have left on the domain and in the scratch folder: nothing, where all went well. */
  async traces(scratchFolder: string): Promise<{ job: boolean; checkpoints: string[]; files: string[] }> {
    const job = await this.ask('backup-dumpxml').then(
      () => true,
      () => false,
    )
    const checkpoints = (await this.ask('checkpoint-list', '--name')).split('\n').filter((line) => line.trim() !== '')
    return { job, checkpoints, files: await readdir(scratchFolder) }
  }

  /** Makes the image, unless there is one, and takes it into the list. */
  async makeDisk(options: TestDiskOptions): Promise<TestDisk> {
    await mkdir(this.folder, { recursive: true })
    const target = `vd${TARGETS[this.disks.length]}`
    const format = options.format ?? 'qcow2'
    const path = options.path ?? join(this.folder, `${target}.${format}`)
    const exists = await access(path).then(
      () => true,
      () => false,
    )
    if (!exists) await runTool('qemu-img', ['create', '-q', '-f', format, path, String(options.sizeBytes)], { timeoutMs: 60_000 })
    const disk = { target, path, format }
    this.disks.push(disk)
    return disk
  }

  private disk(index: number): TestDisk {
    const disk = this.disks[index]
    if (!disk) throw new Error(`${this.name} has no disk ${index}`)
    return disk
  }

  private async xmlFile(): Promise<string> {
    await mkdir(this.folder, { recursive: true })
    const file = join(this.folder, 'domain.xml')
    await writeFile(file, this.xml())
    return file
  }
}

/** Makes a domain. It ends with its libvirt. */
export async function createTestDomain(libvirt: PrivateLibvirt, options: TestDomainOptions): Promise<TestDomain> {
  const domain = new TestDomain(libvirt, options)
  for (const disk of options.disks) await domain.makeDisk(disk)
  if (options.state === 'transient') {
    await domain.createTransient()
    return domain
  }
  await domain.define()
  if (options.state !== 'off') await domain.start()
  return domain
}

function diskXml({ target, path, format }: TestDisk, extraXml = ''): string {
  return `<disk type='file' device='disk'><driver name='qemu' type='${format}' discard='unmap'/><source file='${escapeXml(path)}'/><target dev='${target}' bus='virtio'/>${extraXml}</disk>`
}
