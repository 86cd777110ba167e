/** The GUID partition table: a header and its entries at the beginning of the disk, and a copy of both at its end, each with checksums. */
import { crc32 } from 'node:zlib'
import type { Disk, Partition } from './partition-table.ts'

/** Disks with sectors of 4 KiB count in those. */
const SECTOR_SIZES = [512, 4_096]
const SIGNATURE = 'EFI PART'
const HEADER_BYTES_MIN = 92
const CRC_AT = 16
const ENTRY_BYTES_MIN = 128
const ENTRY_BYTES_MAX = 4_096
/** 128 entries of 128 bytes are usual; Linux reads no more than this either, and numbers no more partitions. */
const ENTRIES_BYTES_MAX = 1024 * 1024
const PARTITIONS_MAX = 256
const UNUSED = Buffer.alloc(16)

export interface Gpt {
  partitions: Partition[]
  /** The one at the beginning was no good. */
  fromCopy: boolean
}

/** `null` without a header whose checksums are right. */
export async function readGpt(disk: Disk): Promise<Gpt | null> {
  for (const sectorBytes of SECTOR_SIZES) {
    const partitions = await readTable(disk, sectorBytes, 1)
    if (partitions) return { partitions, fromCopy: false }
  }
  for (const sectorBytes of SECTOR_SIZES) {
    const partitions = await readTable(disk, sectorBytes, Math.floor(disk.sizeBytes / sectorBytes) - 1)
    if (partitions) return { partitions, fromCopy: true }
  }
  return null
}

interface GptHeader {
  entriesSector: bigint
  entries: number
  entryBytes: number
  entriesCrc: number
}

async function readTable(disk: Disk, sectorBytes: number, sector: number): Promise<Partition[] | null> {
  const header = await readHeader(disk, sectorBytes, sector)
  if (!header) return null
  const bytes = await readEntries(disk, sectorBytes, header)
  if (!bytes) return null
  const partitions: Partition[] = []
  for (let index = 0; index < header.entries && partitions.length < PARTITIONS_MAX; index++) {
    const partition = partitionOf(bytes.subarray(index * header.entryBytes), sectorBytes, disk.sizeBytes)
    if (partition) partitions.push({ number: index + 1, ...partition })
  }
  return partitions
}

async function readHeader({ read, sizeBytes }: Disk, sectorBytes: number, sector: number): Promise<GptHeader | null> {
  const offset = sector * sectorBytes
  if (sector < 1 || offset + sectorBytes > sizeBytes) return null
  const bytes = await read(offset, sectorBytes)
  if (bytes.toString('latin1', 0, SIGNATURE.length) !== SIGNATURE) return null
  const length = bytes.readUInt32LE(12)
  if (length < HEADER_BYTES_MIN || length > sectorBytes) return null
  const checked = Buffer.from(bytes.subarray(0, length))
  checked.writeUInt32LE(0, CRC_AT)
  if (crc32(checked) !== bytes.readUInt32LE(CRC_AT) || bytes.readBigUInt64LE(24) !== BigInt(sector)) return null
  return {
    entriesSector: bytes.readBigUInt64LE(72),
    entries: bytes.readUInt32LE(80),
    entryBytes: bytes.readUInt32LE(84),
    entriesCrc: bytes.readUInt32LE(88),
  }
}

async function readEntries({ read, sizeBytes }: Disk, sectorBytes: number, header: GptHeader): Promise<Buffer | null> {
  const { entriesSector, entries, entryBytes, entriesCrc } = header
  if (entryBytes < ENTRY_BYTES_MIN || entryBytes > ENTRY_BYTES_MAX || entryBytes % 8 !== 0) return null
  const length = entries * entryBytes
  const offset = entriesSector * BigInt(sectorBytes)
  if (length > ENTRIES_BYTES_MAX || offset + BigInt(length) > BigInt(sizeBytes)) return null
  const bytes = await read(Number(offset), length)
  return crc32(bytes) === entriesCrc ? bytes : null
}

function partitionOf(entry: Buffer, sectorBytes: number, diskBytes: number): Omit<Partition, 'number'> | null {
  if (entry.subarray(0, 16).equals(UNUSED)) return null
  const first = entry.readBigUInt64LE(32) * BigInt(sectorBytes)
  // Inclusive. Cut at the end of the disk.
  const after = (entry.readBigUInt64LE(40) + 1n) * BigInt(sectorBytes)
  const end = after < BigInt(diskBytes) ? after : BigInt(diskBytes)
  if (first === 0n || first >= end) return null
  const [name, type] = [nameOf(entry.subarray(56, 128)), guidOf(entry.subarray(0, 16))]
  return { offsetBytes: Number(first), sizeBytes: Number(end - first), name, type }
}

/** The first three of its five groups are written backwards. */
function guidOf(bytes: Buffer): string {
  const groups = [bytes.subarray(0, 4).toReversed(), bytes.subarray(4, 6).toReversed(), bytes.subarray(6, 8).toReversed()]
  return [...groups, bytes.subarray(8, 10), bytes.subarray(10, 16)].map((group) => Buffer.from(group).toString('hex')).join('-')
}

function nameOf(bytes: Buffer): string {
  return bytes.toString('utf16le').split('\0', 1)[0]!.toWellFormed()
}
