import { randomBytes } from 'node:crypto'
import {
  appendFile,
  copyFile,
  link,
  mkdtemp,
  open,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NbdPool } from '../../disks/nbd/nbd-pool.ts'
import { serveGraph, serveImage } from '../../disks/serve.ts'
import type { ServedDisk } from '../../disks/serve.ts'
import type { JsonObject } from '../../domain/errors.ts'
import { startPlainQemuNbd } from '../../test/nbd-programs.ts'
import { runTool } from '../../tools/run-tool.ts'
import { describeSource } from '../conformance.ts'
import type { SourceHarness, TestVm } from '../conformance.ts'
import { DiskImageSource } from './source.ts'
import type { Snapshot } from '../source.ts'
import type { ImageFormat } from './config.ts'

const MIB = 1024 * 1024

for (const format of ['raw', 'qcow2', 'vmdk', 'vhdx'] as const) {
  describeSource(`disk-image, ${format}`, () => imageHarness(format))
}

async function imageHarness(format: ImageFormat): Promise<SourceHarness> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-source-'))
  return {
    source: new DiskImageSource(),
    writesDuringSnapshot: 'detected',
    createVm: async (sizesBytes) => {
      const vm = new ImageVm(folder, format)
      for (const sizeBytes of sizesBytes) await vm.addDisk(sizeBytes)
      return vm
    },
    cleanUp: () => rm(folder, { recursive: true, force: true }),
  }
}

/** A VM whose guest is `qemu-io`: another program than the one that Holdfast reads with. */
class ImageVm implements TestVm {
  config: JsonObject = { disks: [] }
  readonly #folder: string
  readonly #format: ImageFormat
  readonly #paths: string[] = []

  constructor(folder: string, format: ImageFormat) {
    this.#folder = folder
    this.#format = format
  }

  async addDisk(sizeBytes: number): Promise<JsonObject> {
    const path = join(this.#folder, `disk ${this.#paths.length}, "exotic" ünicode\nname.${this.#format}`)
    this.#paths.push(path)
    await runTool('qemu-img', ['create', '-q', '-f', this.#format, path, String(sizeBytes)], { timeoutMs: 30_000 })
    this.config = { disks: this.#paths.map((path) => ({ path })) }
    return this.config
  }

  async write(disk: number, offset: number, data: Buffer): Promise<void> {
    const pattern = join(this.#folder, 'pattern')
    await writeFile(pattern, data)
    await this.#io(disk, `write -q -s ${pattern} ${offset} ${data.length}`)
  }

  zero(disk: number, offset: number, length: number): Promise<void> {
    return this.#io(disk, `write -q -z ${offset} ${length}`)
  }

  discard(disk: number, offset: number, length: number): Promise<void> {
    // Only raw and qcow2 promise zeroes after a discard here; the others are asked for the zeroes.
    return this.#io(
      disk,
      this.#format === 'vmdk' || this.#format === 'vhdx' ? `write -q -z ${offset} ${length}` : `discard -q ${offset} ${length}`,
    )
  }

  async content(disk: number): Promise<Buffer> {
    const raw = join(this.#folder, `oracle-${disk}`)
    await runTool('qemu-img', ['convert', '-f', this.#format, '-O', 'raw', this.#paths[disk] ?? '', raw], { timeoutMs: 60_000 })
    return readFile(raw)
  }

  async growDisk(disk: number, sizeBytes: number): Promise<void> {
    const path = this.#paths[disk] ?? ''
    if (this.#format === 'raw' || this.#format === 'qcow2') {
      await runTool('qemu-img', ['resize', '-q', '-f', this.#format, path, String(sizeBytes)], { timeoutMs: 30_000 })
      return
    }
    // QEMU cannot grow the others in place.
    const raw = join(this.#folder, 'growing')
    await writeFile(raw, await this.content(disk))
    await truncate(raw, sizeBytes)
    await runTool('qemu-img', ['convert', '-f', 'raw', '-O', this.#format, raw, `${path}.new`], { timeoutMs: 60_000 })
    await rename(`${path}.new`, path)
  }

  destroy(): Promise<void> {
    return rm(this.#folder, { recursive: true })
  }

  async #io(disk: number, command: string): Promise<void> {
    // Without a lock, as a program with no manners: QEMU's own locks would keep it out while the disk is served.
    const file = { driver: 'file', filename: this.#paths[disk] ?? '', locking: 'off' }
    const args = ['-d', 'unmap', '-c', command, `json:${JSON.stringify({ driver: this.#format, file })}`]
    const { stdout } = await runTool('qemu-io', args, { timeoutMs: 60_000 })
    // qemu-io reports a failed command in words and exits with 0.
    if (/failed|error/i.test(stdout)) throw new Error(`qemu-io ${command}: ${stdout}`)
  }
}

describe('images and what lies behind them', () => {
  let folder: string
  const source = new DiskImageSource()
  const at = (name: string): string => join(folder, name)
  const qemuImg = (...args: string[]): Promise<unknown> => runTool('qemu-img', args, { timeoutMs: 30_000 })
  const begin = (config: JsonObject): Promise<Snapshot> =>
    source.beginSnapshot({ backupId: 'backup-1', config, parentChangeIds: {} }, {})
  /** How describing and freezing a VM with this one disk are refused. */
  const refusals = async (path: string, format?: string): Promise<unknown[]> => {
    const config = { disks: [format === undefined ? { path } : { path, format }] }
    const outcomes = await Promise.allSettled([source.describeVm(config, {}), begin(config)])
    return outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason : 'not refused'))
  }
  const both = (code: string, message: RegExp): unknown[] =>
    [0, 1].map(() => expect.objectContaining({ code, message: expect.stringMatching(message) }))

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-source-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  it('reads a raw disk as raw, whatever header the guest wrote into it', async () => {
    await writeFile(at('secret'), 'x'.repeat(65_536))
    await qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', at('secret'), '-F', 'raw', at('trap.qcow2'), '65536')
    await copyFile(at('trap.qcow2'), at('disk.raw'))
    const bytes = await readFile(at('disk.raw'))
    const config = { disks: [{ path: at('disk.raw') }] }
    const snapshot = await begin(config)
    const disk = await source.openDisk(config, snapshot, 0, { runFolder: at('run') })
    const pool = await NbdPool.open(disk.endpoint, { connections: 1 })
    const content = Buffer.alloc(disk.sizeBytes)
    await pool.read(0, content.length, content)
    await pool.close()
    await disk.close()
    expect(content.subarray(0, bytes.length).equals(bytes)).toBe(true)
    expect(content.includes('xxxx')).toBe(false)
  })

  it('notices a write to a backing file, and follows links to where the files really are', async () => {
    await qemuImg('create', '-q', '-f', 'raw', at('base.img'), String(MIB))
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.img', '-F', 'raw', at('overlay.qcow2'))
    await symlink(at('overlay.qcow2'), at('current.qcow2'))
    const config = { disks: [{ path: at('current.qcow2') }] }
    const snapshot = await begin(config)
    const disk = await source.openDisk(config, snapshot, 0, { runFolder: at('run') })
    const file = await open(at('base.img'), 'r+')
    await file.write(randomBytes(512), 0, 512, 0)
    await file.close()
    await expect(disk.close()).rejects.toMatchObject({ code: 'SOURCE_CHANGED', retryable: false })
  })

  it('notices a file that was replaced by one of the same size and time', async () => {
    await writeFile(at('disk.raw'), Buffer.alloc(MIB))
    const config = { disks: [{ path: at('disk.raw') }] }
    const time = new Date('2026-01-01T00:00:00Z')
    await utimes(at('disk.raw'), time, time)
    const snapshot = await begin(config)
    await writeFile(at('other'), Buffer.alloc(MIB, 1))
    await utimes(at('other'), time, time)
    await rename(at('other'), at('disk.raw'))
    await expect(source.openDisk(config, snapshot, 0, { runFolder: at('run') })).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
  })

  it.each([
    ['json:{"driver":"file","filename":"/etc/passwd"}', 'raw', /not a plain file name/],
    ['nbd://example.org/disk', 'raw', /not a plain file name/],
    ['https://example.org/disk', 'raw', /not a plain file name/],
    ['missing.img', 'raw', /missing\.img.*does not exist/],
  ])('does not follow the backing file %s', async (backing, format, message) => {
    await qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', backing, '-F', format, at('a.qcow2'), String(MIB))
    const code = backing === 'missing.img' ? 'SOURCE_NOT_FOUND' : 'SOURCE_INVALID'
    expect(await refusals(at('a.qcow2'))).toEqual(both(code, message))
  })

  it('does not guess the format of a backing file, nor go round in circles, nor read what it has no key for', async () => {
    await qemuImg('create', '-q', '-f', 'raw', at('base.img'), String(MIB))
    // An old header that does not say: version 2 images made by older tools.
    await qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', 'base.img', '-F', 'raw', at('plain.qcow2'), String(MIB))
    const header = await readFile(at('plain.qcow2'))
    header.writeUInt32BE(0x12345678, header.indexOf(Buffer.from('e2792aca', 'hex')))
    await writeFile(at('plain.qcow2'), header)
    expect(await refusals(at('plain.qcow2'))).toEqual(both('SOURCE_INVALID', /format of its backing file is not given/))

    await qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', 'round.qcow2', '-F', 'qcow2', at('round.qcow2'), String(MIB))
    expect(await refusals(at('round.qcow2'))).toEqual(both('SOURCE_INVALID', /never end/))

    const secret = ['--object', 'secret,id=s,data=key', '-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10']
    await qemuImg('create', '-q', '-f', 'qcow2', ...secret, at('luks.qcow2'), String(MIB))
    expect(await refusals(at('luks.qcow2'))).toEqual(both('SOURCE_INVALID', /encrypted/))

    await qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${at('data')}`, at('external.qcow2'), String(MIB))
    expect(await refusals(at('external.qcow2'))).toEqual(both('SOURCE_INVALID', /external data file/))
  })

  it('watches the extents of a VMDK, and refuses one that reaches elsewhere or needs a parent', async () => {
    await qemuImg('create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', at('disk.vmdk'), String(MIB))
    const config = { disks: [{ path: at('disk.vmdk') }] }
    const snapshot = await begin(config)
    expect(snapshot.disks).toMatchObject([{ sizeBytes: MIB }])
    await appendFile(at('disk-flat.vmdk'), 'x')
    await expect(source.openDisk(config, snapshot, 0, { runFolder: at('run') })).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })

    const descriptor = await readFile(at('disk.vmdk'), 'utf8')
    await writeFile(at('far.vmdk'), descriptor.replace('disk-flat.vmdk', '/etc/passwd'))
    expect(await refusals(at('far.vmdk'))).toEqual(both('SOURCE_INVALID', /does not lie beside it/))
    await writeFile(at('child.vmdk'), descriptor.replace(/parentCID=\w+/, 'parentCID=12345678'))
    expect(await refusals(at('child.vmdk'))).toEqual(both('SOURCE_INVALID', /needs its parent/))
    await qemuImg('create', '-q', '-f', 'vmdk', at('base.vmdk'), String(MIB))
    await qemuImg('create', '-q', '-f', 'vmdk', '-b', 'base.vmdk', '-F', 'vmdk', at('sparse-child.vmdk'))
    expect(await refusals(at('sparse-child.vmdk'))).toEqual(both('SOURCE_INVALID', /needs its parent/))
  })

  it.each([
    [' RW 8 FLAT "/etc/passwd" 0', /does not lie beside it/],
    ['\t\v RW\n8\r\nFLAT\n"/etc/passwd"\n0', /does not lie beside it/],
    ['RW 8FLAT"/etc/passwd" 0', /does not lie beside it/],
    ['RW 8 SPARSE "/etc/passwd', /does not lie beside it/],
    ['RW 8 FLAT "sub/disk.img" 0', /does not lie beside it/],
    ['RW 8 FLAT "../disk.img" 0', /does not lie beside it/],
    ['RW 8 FLAT "..disk.img" 0', /not a plain file name/],
    ['RW 8 FLAT "." 0', /not a plain file name/],
    ['rw 8 flat "nbd:localhost:10809" 0', /not a plain file name/],
    ['RW 8 FLAT "json:{}" 0', /not a plain file name/],
    ['RW 8 FLAT "" 0', /no name/],
    ['changeTrackPath="/etc/passwd"', /does not lie beside it/],
    ['parentFileNameHint="beside.vmdk"', /needs its parent/],
    ['  PARENTFILENAMEHINT = "beside.vmdk"', /needs its parent/],
    [' parentCID = 12345678', /needs its parent/],
  ])('refuses a VMDK whose descriptor says %j', async (line, message) => {
    const start = ['# Disk DescriptorFile', 'version=1', 'CID=ffffffff', 'createType="monolithicFlat"']
    await writeFile(at('disk.vmdk'), `${[...start, line].join('\n')}\n`)
    expect(await refusals(at('disk.vmdk'))).toEqual(both('SOURCE_INVALID', message))
  })

  it('refuses a sparse VMDK that could lead QEMU elsewhere, as a whole and as an extent, and says how to get rid of that', async () => {
    await qemuImg('create', '-q', '-f', 'vmdk', at('sound.vmdk'), String(MIB))
    const sound = await readFile(at('sound.vmdk'))
    const changed = (change: (bytes: Buffer) => unknown): Buffer => {
      const bytes = Buffer.from(sound)
      change(bytes)
      return bytes
    }
    const lead = Buffer.from('parentFileNameHint="/etc/passwd"\n')
    const traps: [string, Buffer, RegExp][] = [
      ['no size', changed((bytes) => bytes.writeBigUInt64LE(0n, 12)), /gives no size.*qemu-img convert/],
      ['cow', changed((bytes) => bytes.write('COWD', 0, 'latin1')), /COWD.*qemu-img convert/],
      // QEMU looks at byte 512, also when the header says that there is no descriptor.
      [
        'hint',
        changed((bytes) => [bytes.writeBigUInt64LE(0n, 28), lead.copy(bytes, 512 + 300)]),
        /needs its parent.*qemu-img convert/,
      ],
      [
        'late hint',
        Buffer.concat([changed((bytes) => bytes.writeBigUInt64LE(BigInt(sound.length / 512), 28)), lead]),
        /needs its parent/,
      ],
    ]
    for (const [name, bytes, message] of traps) {
      await writeFile(at(`${name}.vmdk`), bytes)
      expect(await refusals(at(`${name}.vmdk`)), name).toEqual(both('SOURCE_INVALID', message))
      const extents = `# Disk DescriptorFile\nCID=ffffffff\ncreateType="twoGbMaxExtentSparse"\nRW 2048 SPARSE "${name}.vmdk"\n`
      await writeFile(at('outer.vmdk'), extents)
      expect(await refusals(at('outer.vmdk')), `${name} as an extent`).toEqual(both('SOURCE_INVALID', message))
    }
    // What a guest wrote at its disk's beginning is no header.
    await qemuImg('create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', at('disk.vmdk'), String(MIB))
    await writeFile(at('disk-flat.vmdk'), traps[0]![1], { flag: 'r+' })
    const { disks } = await source.describeVm({ disks: [{ path: at('disk.vmdk') }] }, {})
    expect(disks).toMatchObject([{ sizeBytes: MIB }])
  })

  it('says what is wrong with what is no image', async () => {
    await writeFile(at('text.qcow2'), 'hello')
    await writeFile(at('text.vmdk'), 'hello')
    await writeFile(at('text.vhdx'), 'hello')
    expect(await refusals(at('text.qcow2'))).toEqual(both('SOURCE_INVALID', /not a QCOW2/))
    expect(await refusals(at('text.vmdk'))).toEqual(both('SOURCE_INVALID', /not a VMDK/))
    expect(await refusals(at('text.vhdx'))).toEqual(both('SOURCE_INVALID', /text\.vhdx/))
    expect(await refusals(folder, 'raw')).toEqual(both('SOURCE_INVALID', /not a regular file/))
    expect(await refusals('/dev/null', 'raw')).toEqual(both('SOURCE_INVALID', /not a regular file/))
    expect(await refusals(at('no/such/disk.raw'))).toEqual(both('SOURCE_NOT_FOUND', /does not exist/))
  })

  it('is busy while a VM has the image open, and while somebody keeps writing', async () => {
    await qemuImg('create', '-q', '-f', 'qcow2', at('disk.qcow2'), String(MIB))
    const config = { disks: [{ path: at('disk.qcow2') }] }
    const graph = { driver: 'qcow2', file: { driver: 'file', filename: at('disk.qcow2') } }
    const writer = await serveGraph(graph, { runFolder: at('run'), readOnly: false })
    try {
      await expect(source.describeVm(config, {})).rejects.toMatchObject({ code: 'SOURCE_BUSY', retryable: true })
      await expect(begin(config)).rejects.toMatchObject({ code: 'SOURCE_BUSY' })
    } finally {
      await writer.close()
    }
    expect((await source.describeVm(config, {})).disks).toHaveLength(1)
  })

  it('keeps a VM from starting on an image that is being read', async () => {
    await qemuImg('create', '-q', '-f', 'qcow2', at('disk.qcow2'), String(MIB))
    const config = { disks: [{ path: at('disk.qcow2') }] }
    const disk = await source.openDisk(config, await begin(config), 0, { runFolder: at('run') })
    await expect(
      runTool('qemu-io', ['-f', 'qcow2', '-c', 'write 0 512', at('disk.qcow2')], { timeoutMs: 10_000 }),
    ).rejects.toThrow(/lock/)
    await disk.close()
  })

  it('takes a changed attribute for a change: a hard link is one', async () => {
    await writeFile(at('disk.raw'), Buffer.alloc(MIB))
    const config = { disks: [{ path: at('disk.raw') }] }
    const snapshot = await begin(config)
    await link(at('disk.raw'), at('second name'))
    await expect(source.openDisk(config, snapshot, 0, { runFolder: at('run') })).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
  })

  it('rounds a raw image up to whole sectors, as every program that serves it does', async () => {
    await writeFile(at('odd.raw'), Buffer.alloc(1000, 7))
    const config = { disks: [{ path: at('odd.raw') }] }
    const snapshot = await begin(config)
    const disk = await source.openDisk(config, snapshot, 0, { runFolder: at('run') })
    const pool = await NbdPool.open(disk.endpoint, { connections: 1 })
    expect([snapshot.disks[0]?.sizeBytes, disk.sizeBytes, pool.export.sizeBytes]).toEqual([1024, 1024, 1024])
    await pool.close()
    await disk.close()
  })
})

describe('a disk that somebody serves over NBD', () => {
  let folder: string
  let server: ServedDisk
  const source = new DiskImageSource()

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hf-'))
    const file = await open(join(folder, 'disk.raw'), 'w')
    await file.truncate(64 * MIB)
    await file.write(randomBytes(MIB), 0, MIB, 8 * MIB)
    await file.close()
    server = await serveImage(join(folder, 'disk.raw'), 'raw', { runFolder: join(folder, 'run') })
  })
  afterEach(async () => {
    await server.close()
    await rm(folder, { recursive: true })
  })
  const config = (): JsonObject => ({ disks: [{ uri: uriOf(server) }] })

  it('is described, opened and closed without a server of our own', async () => {
    const { disks } = await source.describeVm(config(), {})
    expect(disks).toMatchObject([{ key: uriOf(server), format: 'nbd', sizeBytes: 64 * MIB, dataBytes: MIB }])
    const snapshot = await source.beginSnapshot({ backupId: 'backup-1', config: config(), parentChangeIds: {} }, {})
    expect(snapshot).toMatchObject({ consistency: 'crash', vmConfig: { disks: [{ uri: uriOf(server), format: 'nbd' }] } })
    const disk = await source.openDisk(config(), snapshot, 0, { runFolder: join(folder, 'run') })
    expect(disk).toMatchObject({ endpoint: server.endpoint, sizeBytes: 64 * MIB, changes: { type: 'compare-hashes' } })
    await disk.close()
  })

  it('is unavailable, not gone, while its server is down', async () => {
    const known = config()
    const snapshot = await source.beginSnapshot({ backupId: 'backup-1', config: known, parentChangeIds: {} }, {})
    await server.close()
    const unavailable = { code: 'SOURCE_UNAVAILABLE', retryable: true }
    await expect(source.describeVm(known, {})).rejects.toMatchObject(unavailable)
    await expect(source.openDisk(known, snapshot, 0, { runFolder: folder })).rejects.toMatchObject(unavailable)
  })

  it('is read beside others whose servers take one client at a time', async () => {
    const paths = ['first', 'second'].map((name) => join(folder, `${name}.raw`))
    for (const path of paths) await writeFile(path, Buffer.alloc(MIB, 5))
    const servers = await Promise.all(paths.map((path) => startPlainQemuNbd('--shared', '1', '--format', 'raw', path)))
    const two = { disks: servers.map(({ endpoint }) => ({ uri: `nbd+unix:///?socket=${encodeURIComponent(endpoint.path)}` })) }
    const snapshot = await source.beginSnapshot({ backupId: 'backup-1', config: two, parentChangeIds: {} }, {})
    const opened: { close(): Promise<void> }[] = []
    for (const index of [0, 1]) {
      const disk = await source.openDisk(two, snapshot, index, { runFolder: folder })
      const reader = await NbdPool.open(disk.endpoint, { connections: 1 })
      expect(reader.export.sizeBytes).toBe(MIB)
      opened.push(disk, reader)
    }
    const [first, firstReader, second, secondReader] = opened
    await firstReader?.close()
    await first?.close()
    await secondReader?.close()
    await second?.close()
  })

  it('has changed when its size has', async () => {
    const snapshot = await source.beginSnapshot({ backupId: 'backup-1', config: config(), parentChangeIds: {} }, {})
    const smaller = { ...snapshot, id: 'of another size' }
    await expect(source.openDisk(config(), smaller, 0, { runFolder: folder })).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
  })
})

function uriOf(server: ServedDisk): string {
  if (server.endpoint.type !== 'unix') throw new Error('serveImage serves on unix sockets')
  return `nbd+unix:///${server.endpoint.exportName}?socket=${encodeURIComponent(server.endpoint.path)}`
}
