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

export interface ReadStep {
  links: ChainLink[]
  runFolder: string
  targetPath: string
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
