/** Everything that can be asked of a repository, as data: a verb with its input. A new method of the contract is a line in each of both tables. */
import type { RestoreProgress } from '../disks/restore.ts'
import type { TransferProgress, TransferRequest } from '../disks/transfer.ts'
import type { Progress } from '../domain/progress.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import type { StorageInfo } from '../domain/storage.ts'
import type { Repository } from '../repositories/repository.ts'
import type { DiskWork, HostedRepository, TargetWork, Watched } from './hosted-repository.ts'

type AsyncMethods<T> = { [K in keyof T as T[K] extends (...input: never[]) => Promise<unknown> ? K : never]: T[K] }
type AllVerbs = AsyncMethods<Repository> & DiskWork & TargetWork

export type Verb = keyof AllVerbs
/** Takes as long as it takes: it can be cancelled and tells how far it is. */
export type LongVerb = keyof ProgressOf
/** `storage` apart: it is what tells whether the others are worth trying. */
export type ShortVerb = Exclude<Verb, LongVerb | 'storage'>
export type Output<V extends Verb> = Awaited<ReturnType<AllVerbs[V]>>
export type Input<V extends Verb> = V extends LongVerb ? [Parameters<AllVerbs[V]>[0]] : Parameters<AllVerbs[V]>

interface ProgressOf {
  transferDisk: TransferProgress
  verifyDisk: Progress
  restoreDiskTo: RestoreProgress
}

export type Watching<V extends Verb> = Watched<V extends LongVerb ? ProgressOf[V] : never>

/** Whoever has verbs run: this process, or another one. */
export interface VerbRunner {
  storage(): Promise<StorageInfo>
  short<V extends ShortVerb>(verb: V, input: Input<V>): Promise<Output<V>>
  long<V extends LongVerb>(verb: V, input: Input<V>, watching: Watching<V>): Promise<Output<V>>
}

/** A repository whose every verb is run by `runner`. */
export function repositoryRunBy(
  { id, type }: Pick<RepositoryRecord, 'id' | 'type'>,
  root: string,
  runner: VerbRunner,
): HostedRepository {
  return {
    id,
    type,
    root,
    initialize: () => runner.short('initialize', []),
    readIdentity: () => runner.short('readIdentity', []),
    checkFree: () => runner.short('checkFree', []),
    clear: () => runner.short('clear', []),
    storage: () => runner.storage(),
    createBackup: (...input) => runner.short('createBackup', input),
    publishBackup: (...input) => runner.short('publishBackup', input),
    discardBackup: (...input) => runner.short('discardBackup', input),
    getBackup: (...input) => runner.short('getBackup', input),
    listBackups: (...input) => runner.short('listBackups', input),
    deleteBackup: (...input) => runner.short('deleteBackup', input),
    keepReserve: () => runner.short('keepReserve', []),
    releaseReserve: () => runner.short('releaseReserve', []),
    disks: {
      checkChain: (...input) => runner.short('checkChain', input),
      transferDisk: (request, options = {}) => runner.long('transferDisk', [asData(request)], options),
      verifyDisk: (request, options = {}) => runner.long('verifyDisk', [request], options),
      restoreDiskTo: (request, options = {}) => runner.long('restoreDiskTo', [request], options),
    },
  }
}

/** An open disk can also be closed, which is for who opened it. */
function asData(request: TransferRequest): TransferRequest {
  const { endpoint, sizeBytes, changes } = request.source
  return { ...request, source: { endpoint, sizeBytes, changes } }
}

export interface RunningWork {
  repository: Repository
  disks: DiskWork
  targets: TargetWork
}

type Table = { [V in Verb]: (work: RunningWork, input: Input<V>, watching: Watching<V>) => Promise<Output<V>> }

const table: Table = {
  initialize: ({ repository }) => repository.initialize(),
  readIdentity: ({ repository }) => repository.readIdentity(),
  checkFree: ({ repository }) => repository.checkFree(),
  clear: ({ repository }) => repository.clear(),
  storage: ({ repository }) => repository.storage(),
  createBackup: ({ repository }, input) => repository.createBackup(...input),
  publishBackup: ({ repository }, input) => repository.publishBackup(...input),
  discardBackup: ({ repository }, input) => repository.discardBackup(...input),
  getBackup: ({ repository }, input) => repository.getBackup(...input),
  listBackups: ({ repository }, input) => repository.listBackups(...input),
  deleteBackup: ({ repository }, input) => repository.deleteBackup(...input),
  keepReserve: ({ repository }) => repository.keepReserve(),
  releaseReserve: ({ repository }) => repository.releaseReserve(),
  checkChain: ({ disks }, input) => disks.checkChain(...input),
  transferDisk: ({ disks }, [request], watching) => disks.transferDisk(request, watching),
  verifyDisk: ({ disks }, [request], watching) => disks.verifyDisk(request, watching),
  restoreDiskTo: ({ disks }, [request], watching) => disks.restoreDiskTo(request, watching),
  checkRestoreTarget: ({ targets }, input) => targets.checkRestoreTarget(...input),
  discardRestore: ({ targets }, input) => targets.discardRestore(...input),
}

/** Runs it here and now. */
export function runVerb<V extends Verb>(work: RunningWork, verb: V, input: Input<V>, watching: Watching<V>): Promise<Output<V>> {
  return table[verb](work, input, watching)
}
