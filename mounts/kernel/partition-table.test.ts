import * as fc from 'fast-check'
import { crc32 } from 'node:zlib'
import { expect, it } from 'vitest'
import { readPartitionTable, type Disk } from './partition-table.ts'

const SECTOR = 512
const SECTORS = 4_096
const READ_MAX_BYTES = 5 * 1024 * 1024

/** A disk in memory that refuses to be read where it does not lie, and counts what is read. */
function diskOf(bytes: Buffer): Disk & { readBytes: number } {
  const disk = {
    readBytes: 0,
    sizeBytes: bytes.length,
    read: async (offset: number, length: number): Promise<Buffer> => {
      if (offset < 0 || length < 0 || offset + length > bytes.length) throw new RangeError(`${length} bytes at ${offset}`)
      disk.readBytes += length
      return Buffer.from(bytes.subarray(offset, offset + length))
    },
  }
  return disk
}

interface Entry {
  type: number
  start: number
  sectors: number
  active?: number
}

function writeMbr(bytes: Buffer, sector: number, entries: readonly Entry[]): void {
  const at = sector * SECTOR
  bytes.writeUInt16LE(0xaa55, at + 510)
  for (const [index, { type, start, sectors, active = 0 }] of entries.entries()) {
    const entry = bytes.subarray(at + 446 + 16 * index)
    entry[0] = active
    entry[4] = type
    entry.writeUInt32LE(start, 8)
    entry.writeUInt32LE(sectors, 12)
  }
}

interface GptEntry {
  first: number
  last: number
  name?: string
}

/** Both copies, with right checksums; `sectorBytes` as the header's place says. */
function writeGpt(bytes: Buffer, entries: readonly GptEntry[], sectorBytes = SECTOR): void {
  const table = Buffer.alloc(128 * 128)
  for (const [index, { first, last, name = '' }] of entries.entries()) {
    const entry = table.subarray(128 * index)
    entry.fill(0xab, 0, 32)
    entry.writeBigUInt64LE(BigInt(first), 32)
    entry.writeBigUInt64LE(BigInt(last), 40)
    entry.write(name, 56, 'utf16le')
  }
  const end = bytes.length / sectorBytes - 1
  for (const { header, at } of [
    { header: 1, at: 2 },
    { header: end, at: end - table.length / sectorBytes },
  ]) {
    table.copy(bytes, at * sectorBytes)
    writeGptHeader(bytes.subarray(header * sectorBytes), { header, at, crc: crc32(table) })
  }
}

function writeGptHeader(bytes: Buffer, { header, at, crc }: { header: number; at: number; crc: number }): void {
  bytes.write('EFI PART')
  bytes.writeUInt32LE(0x10000, 8)
  bytes.writeUInt32LE(92, 12)
  bytes.writeBigUInt64LE(BigInt(header), 24)
  bytes.writeBigUInt64LE(BigInt(at), 72)
  bytes.writeUInt32LE(128, 80)
  bytes.writeUInt32LE(128, 84)
  bytes.writeUInt32LE(crc, 88)
  bytes.writeUInt32LE(0, 16)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 92)), 16)
}

function emptyDisk(): Buffer {
  return Buffer.alloc(SECTORS * SECTOR)
}

const protective: Entry = { type: 0xee, start: 1, sectors: 0xffffffff }

it('finds nothing on an empty disk, and nothing on less than a sector', async () => {
  expect(await readPartitionTable(diskOf(emptyDisk()))).toBeNull()
  expect(await readPartitionTable(diskOf(Buffer.alloc(0)))).toBeNull()
  expect(await readPartitionTable(diskOf(Buffer.alloc(511, 0xff)))).toBeNull()
})

it('takes a boot sector of a file system for none', async () => {
  const bytes = emptyDisk()
  // The signature is the same; program code lies where partitions would.
  bytes.fill(0x90, 3, 510)
  bytes.writeUInt16LE(0xaa55, 510)
  expect(await readPartitionTable(diskOf(bytes))).toBeNull()
})

it('reads an MBR as Linux does: cut at the end of the disk, holes in the numbers kept', async () => {
  const bytes = emptyDisk()
  writeMbr(bytes, 0, [
    { type: 0x83, start: 64, sectors: 100, active: 0x80 },
    { type: 0, start: 0, sectors: 0 },
    { type: 7, start: 4_000, sectors: 1_000 },
    { type: 7, start: 5_000, sectors: 10 },
  ])
  expect(await readPartitionTable(diskOf(bytes))).toEqual({
    kind: 'mbr',
    announced: true,
    note: '',
    partitions: [
      { number: 1, offsetBytes: 64 * SECTOR, sizeBytes: 100 * SECTOR, name: '', type: '0x83' },
      { number: 3, offsetBytes: 4_000 * SECTOR, sizeBytes: 96 * SECTOR, name: '', type: '0x7' },
    ],
  })
})

it('ends with an extended partition that leads back to itself', async () => {
  const bytes = emptyDisk()
  writeMbr(bytes, 0, [{ type: 5, start: 100, sectors: 3_000 }])
  writeMbr(bytes, 100, [
    { type: 0x83, start: 10, sectors: 20 },
    { type: 5, start: 50, sectors: 60 },
  ])
  writeMbr(bytes, 150, [
    { type: 0x83, start: 10, sectors: 20 },
    { type: 5, start: 0, sectors: 60 },
  ])
  const table = await readPartitionTable(diskOf(bytes))
  expect(table?.partitions.map(({ number, offsetBytes }) => [number, offsetBytes / SECTOR])).toEqual([
    [5, 110],
    [6, 160],
  ])
})

it.each([SECTOR, 4_096])('reads a GPT that counts in sectors of %i bytes', async (sectorBytes) => {
  const bytes = emptyDisk()
  writeMbr(bytes, 0, [protective])
  writeGpt(bytes, [{ first: 64, last: 127, name: 'boot ✓' }], sectorBytes)
  const type = 'abababab-abab-abab-abab-abababababab'
  expect(await readPartitionTable(diskOf(bytes))).toEqual({
    kind: 'gpt',
    announced: true,
    note: '',
    partitions: [{ number: 1, offsetBytes: 64 * sectorBytes, sizeBytes: 64 * sectorBytes, name: 'boot ✓', type }],
  })
})

it('uses the copy at the end when the beginning is damaged, and says so', async () => {
  const bytes = emptyDisk()
  writeMbr(bytes, 0, [protective])
  writeGpt(bytes, [{ first: 64, last: 127 }])
  // In the entries: the header itself is right.
  bytes[2 * SECTOR + 40]! ^= 1
  const table = await readPartitionTable(diskOf(bytes))
  expect(table).toMatchObject({ kind: 'gpt', announced: true, partitions: [{ number: 1 }] })
  expect(table?.note).toContain('its copy at the end')
  bytes[bytes.length - SECTOR + 40]! ^= 1
  expect(await readPartitionTable(diskOf(bytes))).toMatchObject({ kind: 'gpt', announced: true, partitions: [] })
})

it('tells a GPT that no MBR announces', async () => {
  const bytes = emptyDisk()
  writeGpt(bytes, [{ first: 64, last: 127 }])
  expect(await readPartitionTable(diskOf(bytes))).toMatchObject({ kind: 'gpt', announced: false, partitions: [{ number: 1 }] })
})

/** What is wrong with what was read: partitions beside the disk, too many of them, or too much reading. */
async function offences(bytes: Buffer): Promise<unknown[]> {
  const disk = diskOf(bytes)
  const partitions = (await readPartitionTable(disk))?.partitions ?? []
  const beside = partitions.filter(({ offsetBytes, sizeBytes }) => {
    const exact = Number.isSafeInteger(offsetBytes) && Number.isSafeInteger(sizeBytes)
    return !exact || offsetBytes <= 0 || sizeBytes <= 0 || offsetBytes + sizeBytes > bytes.length
  })
  const tooMany = partitions.length > 512 ? [`${partitions.length} partitions`] : []
  return [...beside, ...tooMany, ...(disk.readBytes > READ_MAX_BYTES ? [`read ${disk.readBytes} bytes`] : [])]
}

const sectorNumber = fc.oneof(fc.integer({ min: 0, max: SECTORS }), fc.integer({ min: 0, max: 0xffffffff }))
const entry = fc.record({ type: fc.constantFrom(0, 5, 7, 0x0f, 0x83, 0x85), start: sectorNumber, sectors: sectorNumber })

it('believes no MBR and no chain of extended tables', async () => {
  const tables = fc.array(
    fc.record({ at: fc.integer({ min: 0, max: SECTORS - 1 }), entries: fc.array(entry, { maxLength: 4 }) }),
    {
      maxLength: 12,
    },
  )
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { maxLength: 4 }), tables, async (first, others) => {
      const bytes = emptyDisk()
      for (const { at, entries } of others) writeMbr(bytes, at, entries)
      writeMbr(bytes, 0, first)
      expect(await offences(bytes)).toEqual([])
    }),
  )
})

it('believes no GPT, not even one whose checksums are right', async () => {
  const any64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })
  const change = fc.record({
    at: fc.constantFrom(12, 24, 72, 80, 84),
    value: fc.oneof(fc.bigInt({ min: 0n, max: BigInt(SECTORS) }), any64),
  })
  const ranges = fc.array(fc.record({ first: any64, last: any64 }), { maxLength: 8 })
  await fc.assert(
    fc.asyncProperty(ranges, fc.array(change, { maxLength: 3 }), async (entries, changes) => {
      const bytes = emptyDisk()
      writeMbr(bytes, 0, [protective])
      const table = Buffer.alloc(128 * 128)
      for (const [index, { first, last }] of entries.entries()) {
        table.fill(1, 128 * index, 128 * index + 16)
        table.writeBigUInt64LE(first, 128 * index + 32)
        table.writeBigUInt64LE(last, 128 * index + 40)
      }
      table.copy(bytes, 2 * SECTOR)
      const header = bytes.subarray(SECTOR)
      writeGptHeader(header, { header: 1, at: 2, crc: crc32(table) })
      for (const { at, value } of changes) {
        if (at === 24 || at === 72) header.writeBigUInt64LE(value, at)
        else header.writeUInt32LE(Number(value & 0xffffffffn), at)
      }
      header.writeUInt32LE(0, 16)
      const length = Math.min(header.readUInt32LE(12), SECTOR)
      header.writeUInt32LE(crc32(header.subarray(0, length)), 16)
      expect(await offences(bytes)).toEqual([])
    }),
  )
})

it('believes no bytes at all', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 0, maxLength: 20 * SECTOR }), async (noise) => {
      const bytes = Buffer.from(noise)
      if (bytes.length >= SECTOR) bytes.writeUInt16LE(0xaa55, 510)
      expect(await offences(bytes)).toEqual([])
    }),
  )
})
