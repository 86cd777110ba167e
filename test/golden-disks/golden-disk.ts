/** What golden disks are: how one is made, and what a reader must find on it. */
import type { Volume } from '../../domain/restore-mount.ts'
import type { GoldenEntry, Keeps, PlannedFile } from './planned-file.ts'

export interface GoldenVolume extends Pick<Volume, 'id' | 'state' | 'fileSystem'> {
  label?: string
  /** Words of the note for people; none when there must be no note. */
  note?: RegExp
  /** Everything below the root; `null` when it cannot be read. */
  entries: GoldenEntry[] | null
}

export interface GoldenDisk {
  name: string
  /** Absolute path of the image, raw. */
  path: string
  sizeBytes: number
  volumes: GoldenVolume[]
}

export interface PartitionRecipe {
  /** In whole sectors. */
  sizeMib: number
  /** As sfdisk knows types. */
  type?: string
  /** In the extended partition of an MBR. */
  logical?: boolean
  /** A program of this host with its arguments; the path of the partition's image is added. */
  format?: readonly string[]
  /** Written at places of the partition, after `format`. */
  bytes?: readonly [offset: number, bytes: Buffer][]
  /** How the machine mounts it to fill it: type and options for `mount`, or another command; device and folder are added. */
  mount?: string
  files?: readonly PlannedFile[]
  keeps?: Keeps
  /** What the file system's maker puts there by itself. */
  inherent?: readonly GoldenEntry[]
  /** `true`: never unmounted, as when the power goes. */
  dirty?: boolean
  /** `null`: no volume of its own. */
  volume: Omit<GoldenVolume, 'id' | 'entries'> | null
}

/** Writes planned files below a folder of the machine: resolves with the command that does. */
export type WriteFiles = (planned: readonly PlannedFile[], mountedAt: string) => Promise<string>

export interface DiskRecipe {
  name: string
  /** `null`: one file system on the whole disk. */
  table: 'gpt' | 'dos' | null
  partitions: readonly PartitionRecipe[]
  /** What is done in the machine besides filling partitions; the disk is `device`. */
  script?: (device: string, write: WriteFiles) => Promise<string>
  /** What a reader finds besides the partitions. */
  volumes?: readonly GoldenVolume[]
}
