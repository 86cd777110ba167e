/** The disk work of `disks/`, done by this very process. */
import { checkChain } from '../disks/chain.ts'
import { checkRestoreTarget, discardRestore, restoreDiskTo } from '../disks/restore.ts'
import { transferDisk } from '../disks/transfer.ts'
import { verifyDisk } from '../disks/verify.ts'
import type { DiskWork, TargetWork } from './hosted-repository.ts'

export const localDisks: DiskWork = { checkChain, transferDisk, verifyDisk, restoreDiskTo }

export const localTargets: TargetWork = { checkRestoreTarget, discardRestore }
