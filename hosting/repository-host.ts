/** All repositories of one mover. */
import { checkChain } from '../disks/chain.ts'
import { restoreDiskTo } from '../disks/restore.ts'
import { transferDisk } from '../disks/transfer.ts'
import { verifyDisk } from '../disks/verify.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import { createRepository } from '../repositories/registry.ts'
import type { DiskWork, HostedRepository, MountState, RepositoryHost } from './hosted-repository.ts'

/** Disks of a folder that does not hang: their work is done by the mover itself. */
const localDisks: DiskWork = { checkChain, transferDisk, verifyDisk, restoreDiskTo }

export function createRepositoryHost(): RepositoryHost {
  const nothingMounted = async (): Promise<MountState> => ({ mounted: false, reason: null })
  return {
    open: (record: RepositoryRecord): HostedRepository => Object.assign(createRepository(record), { disks: localDisks }),
    mount: nothingMounted,
    unmount: nothingMounted,
    forget: async () => undefined,
    close: async () => undefined,
  }
}
