/**
 * Reads partition tables, MBR and GPT, without trusting them: what does not lie on the disk, or does not add up, is left out, and however a table
 * lies, little is read.
 */
import { readGpt } from './gpt.ts'
import { readMbr } from './mbr.ts'

/** Reads exactly so many bytes of the disk. Asked only for what lies on it. */
export type ReadDisk = (offset: number, length: number) => Promise<Buffer>

export interface Disk {
  read: ReadDisk
  sizeBytes: number
}

export interface Partition {
  /** As Linux counts: from 1; logical partitions of an MBR from 5. */
  number: number
  offsetBytes: number
  sizeBytes: number
  /** GPT only; empty otherwise. */
  name: string
  /** What it is for: a GUID in small letters, or a number such as `0x83`. */
  type: string
}

export interface PartitionTable {
  kind: 'gpt' | 'mbr'
  /** In the order of their numbers. */
  partitions: Partition[]
  /** False for a GPT that no MBR announces: left behind, perhaps, by what was on the disk before. */
  announced: boolean
  /** For people: what was wrong with it. Empty otherwise. */
  note: string
}

/** `null` when there is none. Rejects with what `read` rejects with. */
export async function readPartitionTable(disk: Disk): Promise<PartitionTable | null> {
  const mbr = await readMbr(disk)
  if (mbr !== null && !mbr.announcesGpt && mbr.partitions.length > 0) {
    return { kind: 'mbr', partitions: mbr.partitions, announced: true, note: '' }
  }
  const gpt = await readGpt(disk)
  const announced = mbr?.announcesGpt ?? false
  if (gpt !== null) {
    const note = gpt.fromCopy ? 'the partition table at the beginning of the disk is damaged; its copy at the end was used' : ''
    return { kind: 'gpt', partitions: gpt.partitions, announced, note }
  }
  if (!announced) return null
  const note = 'the disk has a GPT partition table, and both copies of it are damaged'
  return { kind: 'gpt', partitions: [], announced, note }
}
