/** What a step of the bench is told, as one JSON argument, and the pieces that several steps need. */
import type { ChainLink } from '../../disks/chain.ts'
import type { Compression } from '../../domain/backup.ts'
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
