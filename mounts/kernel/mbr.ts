/** The partition table in the first sector of a disk, and the chain of tables in its extended partition, as Linux reads them. */
import type { Disk, Partition } from './partition-table.ts'

const SECTOR_BYTES = 512
const ENTRIES_AT = 446
const ENTRY_BYTES = 16
const SIGNATURE = 0xaa55
const TYPE_GPT = 0xee
const EXTENDED = new Set([0x05, 0x0f, 0x85])
const FIRST_LOGICAL = 5
/** More are a loop, or no disk of this world. */
const LOGICAL_MAX = 128

export interface Mbr {
  partitions: Partition[]
  /** A protective MBR: the table is a GPT. */
  announcesGpt: boolean
}

interface MbrEntry {
  active: number
  type: number
  /** In sectors. */
  start: number
  sectors: number
}

/** `null` when the first sector is none: a boot sector of a file system, for example. */
export async function readMbr(disk: Disk): Promise<Mbr | null> {
  const entries = await readEntries(disk, 0)
  if (entries === null || entries.some(({ active }) => active !== 0 && active !== 0x80)) return null
  const partitions: Partition[] = []
  let logical: Partition[] | null = null
  for (const [index, entry] of entries.entries()) {
    if (entry.sectors === 0 || entry.type === 0) continue
    // Linux reads every extended partition; the second one's numbers would follow the first one's.
    if (EXTENDED.has(entry.type)) logical ??= await readLogical(disk, entry.start)
    else add(partitions, disk, { ...entry, number: index + 1 })
  }
  return { partitions: [...partitions, ...(logical ?? [])], announcesGpt: entries.some(({ type }) => type === TYPE_GPT) }
}

/** Each table holds one partition, from itself on, and the way to the next table, from the extended partition's beginning on. */
async function readLogical(disk: Disk, extendedStart: number): Promise<Partition[]> {
  const found: Partition[] = []
  const seen = new Set<number>()
  let number = FIRST_LOGICAL
  for (let at = extendedStart; seen.size < LOGICAL_MAX && !seen.has(at);) {
    seen.add(at)
    const entries = await readEntries(disk, at)
    if (entries === null) break
    for (const entry of entries) {
      if (entry.sectors === 0 || entry.type === 0 || EXTENDED.has(entry.type)) continue
      add(found, disk, { ...entry, number, start: at + entry.start })
      number++
    }
    const next = entries.find(({ type, sectors }) => EXTENDED.has(type) && sectors > 0)
    if (!next) break
    at = extendedStart + next.start
  }
  return found
}

async function readEntries({ read, sizeBytes }: Disk, sector: number): Promise<MbrEntry[] | null> {
  const offset = sector * SECTOR_BYTES
  if (offset + SECTOR_BYTES > sizeBytes) return null
  const bytes = await read(offset, SECTOR_BYTES)
  if (bytes.readUInt16LE(510) !== SIGNATURE) return null
  return [0, 1, 2, 3].map((index) => {
    const entry = bytes.subarray(ENTRIES_AT + index * ENTRY_BYTES)
    return { active: entry[0]!, type: entry[4]!, start: entry.readUInt32LE(8), sectors: entry.readUInt32LE(12) }
  })
}

/** Cut at the end of the disk, as Linux does. */
function add(found: Partition[], disk: Disk, { number, type, start, sectors }: MbrEntry & { number: number }): void {
  const offsetBytes = start * SECTOR_BYTES
  const sizeBytes = Math.min(sectors * SECTOR_BYTES, disk.sizeBytes - offsetBytes)
  if (start > 0 && sizeBytes > 0) found.push({ number, offsetBytes, sizeBytes, name: '', type: `0x${type.toString(16)}` })
}
