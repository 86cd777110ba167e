/** Looking at VMs and repositories where they are, and recording them. */
import { cancellationSignal } from '@temporalio/activity'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import type { StorageInfo } from '../domain/storage.ts'
import type { Catalog } from '../db/client.ts'
import { checkRepositoryIsNew, insertRepository, insertVm, updateStorage } from '../db/queries/registration.ts'
import type { VmDescription } from '../sources/source.ts'
import type { RegisterVmRequest, RepositoryRequest } from '../temporal/operations.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'

export interface RegistrationActivities {
  /** `VM_EXISTS`. Idempotent by context id. */
  recordVm(input: RegisterVmRequest & { description: VmDescription }): Promise<void>

  /** `REPO_EXISTS` */
  checkRepositoryIsNew(repository: RepositoryRequest): Promise<void>

  /** `REPO_EXISTS`. Idempotent by id. */
  recordRepository(input: RepositoryRequest & { storage: StorageInfo }): Promise<void>

  /** Nothing happens when the repository is not registered. */
  recordStorage(input: { repositoryId: string; storage: StorageInfo }): Promise<void>
}

/** Steps of the control worker: the catalog's side. */
export function createRegistrationActivities({ catalog }: { catalog: Catalog }): RegistrationActivities {
  return guarded({
    async recordVm({ description, ...vm }: RegisterVmRequest & { description: VmDescription }): Promise<void> {
      await insertVm(catalog, { ...vm, ...description })
    },

    async checkRepositoryIsNew(repository: RepositoryRequest): Promise<void> {
      await checkRepositoryIsNew(catalog, repository)
    },

    async recordRepository({ storage, ...repository }: RepositoryRequest & { storage: StorageInfo }): Promise<void> {
      await insertRepository(catalog, repository, storage)
    },

    async recordStorage({ repositoryId, storage }: { repositoryId: string; storage: StorageInfo }): Promise<void> {
      await updateStorage(catalog, repositoryId, storage)
    },
  })
}

export interface InspectionActivities {
  /** `SOURCE_*`. Changes nothing. */
  describeVm(input: RegisterVmRequest): Promise<VmDescription>

  /** Makes the place a repository. `REPO_*`. Idempotent. */
  initializeRepository(request: RepositoryRequest): Promise<StorageInfo>

  /** `REPO_*`. Leaves nothing behind. */
  probeRepository(request: RepositoryRequest): Promise<StorageInfo>

  /** Begins to take this repository's transfers. Idempotent. */
  attachRepository(repositoryId: string): Promise<void>
}

/** Steps of a data host: what is really there. */
export function createInspectionActivities({ sourceOf, repositories, attachRepository }: HostDependencies): InspectionActivities {
  return guarded({
    async describeVm({ sourceType, config }: RegisterVmRequest): Promise<VmDescription> {
      const source = await sourceOf({ source_type: sourceType, source_id: null })
      return source.describeVm(config, { signal: cancellationSignal() })
    },

    async initializeRepository(request: RepositoryRequest): Promise<StorageInfo> {
      const repository = repositories.open(recordOf(request))
      await repository.initialize()
      return repository.storage()
    },

    async probeRepository(request: RepositoryRequest): Promise<StorageInfo> {
      return repositories.open(recordOf(request)).storage()
    },

    async attachRepository(repositoryId: string): Promise<void> {
      await attachRepository(repositoryId)
    },
  })
}

function recordOf({ repositoryId: id, type, config }: RepositoryRequest): RepositoryRecord {
  return { id, type, config, credentialsId: null }
}
