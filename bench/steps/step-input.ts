/** What a step of the bench is told, as one JSON argument, and the pieces that several steps need. */
import type { ChainLink } from '../../disks/chain.ts'
import type { Compression } from '../../domain/backup.ts'
import type { DriverName } from '../../domain/restore-mount.ts'
import type { OpenDisk } from '../../sources/source.ts'

export interface TransferStep {
  /** Unix socket of the NBD server that serves the source disk. */
  sourceSocket: string
  sizeBytes: number
  folder: string
  backupId: string
  compression: Compression
  parent: ChainLink[] | null
  runFolder: string
}

/** One disk of a running libvirt domain, from the freeze to the end of the snapshot. */
export interface LiveStep extends Omit<TransferStep, 'sourceSocket' | 'sizeBytes'> {
  uri: string
  scratchFolder: string
  uuid: string
  /** Change ID of the parent; `null` for a full. */
  parentChangeId: string | null
  /** `abandoned` leaves the domain as it was, so that another tool finds no checkpoint of ours. */
  outcome: 'published' | 'abandoned'
  rateLimitBytesPerSecond: number | null
}

export interface ReadStep {
  links: ChainLink[]
  runFolder: string
  targetPath: string
  /** Of a restore. Default `raw`. */
  targetFormat?: 'raw' | 'qcow2'
}

/** What the disk that mounts are measured on holds; all below its root. */
export interface MountPlan {
  sizeBytes: number
  /** Of each of the two files, and of each file of the heap. */
  fileBytes: number
  /** Names of the two files. */
  mixed: string
  incompressible: string
  /** A folder of many empty files. */
  crowd: string
  crowdFiles: number
  /** A folder of large files: every other one is the incompressible file under another name, the rest are holes. */
  heap: string
  heapFiles: number
  /** Of the two files, from one backup to the next. */
  changedShare: number
}

export interface FillStep {
  /** Where the file system is mounted. */
  folder: string
  plan: MountPlan
  /** 0 writes the files; the next ones change them. */
  generation: number
}

/** A mount that is opened, used once and closed. */
export interface MountStep {
  driver: DriverName
  links: readonly ChainLink[]
  runFolder: string
  /** Outlives the mount: what drivers make once. */
  cacheFolder: string
  /** A folder whose first page is read. */
  page: string | null
  /** A file that is read to its end. */
  read: string | null
}

/** Of the one mount that a process of the bench holds. */
export const BENCH_MOUNT_ID = 'bench'

/** `read` is the folder. */
export interface FolderStep extends MountStep {
  format: 'zip' | 'tar.gz'
}

export interface FolderMemory {
  /** Of the process that serves, before the download and at its most. */
  idleBytes: number
  peakBytes: number
  /** Of the mount's own processes, afterwards. */
  mountBytes: number
  /** Of the archive. */
  archiveBytes: number
  seconds: number
}

/** What such a mount printed, in seconds. `null`: was not asked. */
export interface MountTimes {
  firstListing: number
  page: number | null
  read: number | null
}

/** The JSON argument; the bench itself wrote it, so it is what the step says it is. */
export const stepArgument = process.argv[2] ?? '{}'

export function servedDisk(step: TransferStep): OpenDisk {
  return {
    endpoint: { type: 'unix', path: step.sourceSocket, exportName: '' },
    sizeBytes: step.sizeBytes,
    changes: { type: 'compare-hashes' },
    close: async () => {},
  }
}
