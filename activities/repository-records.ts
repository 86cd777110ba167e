/** Catalog steps of repositories. */
import type { Catalog } from '../db/client.ts'
import { findRepository, requireRepository } from '../db/queries/repositories.ts'
import type { BackupRepository } from '../db/queries/repositories.ts'
import { checkRepositoryIsNew } from '../db/queries/repository-conflicts.ts'
import { checkDeletable, deleteRepository, insertRepository, updateRepository } from '../db/queries/repository-records.ts'
import { recordLook } from '../db/queries/repository-health.ts'
import { checkRepositoryUnused } from '../db/queries/repository-uses.ts'
import type { Enforcement } from '../domain/immutability.ts'
import type { StorageInfo } from '../domain/storage.ts'
import type {
  ChangeRepositoryRequest,
  RegisterRepositoryRequest,
  RepositoryFindings,
  RepositoryRequest,
} from '../temporal/operations.ts'
import { guarded } from './failure.ts'

export interface RepositoryRecordActivities {
  /** `REPO_EXISTS`, `REPO_INVALID` */
  checkRepositoryIsNew(repository: RepositoryRequest): Promise<void>

  /** `REPO_EXISTS`. Idempotent by id. */
  recordRepository(input: RegisterRepositoryRequest & { findings: RepositoryFindings }): Promise<void>

  /** Nothing happens when the repository is not registered. */
  recordStorage(input: { repositoryId: string; storage: StorageInfo }): Promise<void>

  isRegistered(repositoryId: string): Promise<boolean>

  /** As it is registered now. `REPO_NOT_FOUND` */
  readRepository(repositoryId: string): Promise<RepositoryRequest>

  /** The repository as it is now, when it may become what is asked. `REPO_NOT_FOUND`, `REPO_EXISTS`, `REPO_INVALID`; for a new place `REPO_IN_USE`. */
  checkRepositoryChange(change: ChangeRepositoryRequest): Promise<RepositoryRequest>

  /** `REPO_NOT_FOUND`, `REPO_EXISTS`. Idempotent. */
  recordRepositoryChange(change: ChangeRepositoryRequest & { enforcement: Enforcement | null }): Promise<void>

  /** `REPO_IN_USE` */
  checkRepositoryUnused(repositoryId: string): Promise<void>

  /** `REPO_IN_USE` while it has a backup. */
  checkRepositoryDeletable(repositoryId: string): Promise<void>

  /** Its credentials stay. `REPO_IN_USE` while it has a backup. Idempotent. */
  removeRepository(repositoryId: string): Promise<void>
}

/** Steps of the control worker. */
export function createRepositoryRecordActivities({ catalog }: { catalog: Catalog }): RepositoryRecordActivities {
  return guarded({
    async checkRepositoryIsNew(repository: RepositoryRequest): Promise<void> {
      await checkRepositoryIsNew(catalog, repository)
    },

    async recordRepository({
      findings,
      ...repository
    }: RegisterRepositoryRequest & { findings: RepositoryFindings }): Promise<void> {
      await insertRepository(catalog, repository, findings)
      await noteFound(catalog, repository.repositoryId, findings.storage)
    },

    async recordStorage({ repositoryId, storage }: { repositoryId: string; storage: StorageInfo }): Promise<void> {
      await noteFound(catalog, repositoryId, storage)
    },

    async isRegistered(repositoryId: string): Promise<boolean> {
      return (await findRepository(catalog, repositoryId)) !== undefined
    },

    async readRepository(repositoryId: string): Promise<RepositoryRequest> {
      return requestOf(await requireRepository(catalog, repositoryId))
    },

    async checkRepositoryChange({ repositoryId, name, place }: ChangeRepositoryRequest): Promise<RepositoryRequest> {
      const before = requestOf(await requireRepository(catalog, repositoryId))
      const after = { ...before, ...(name !== undefined && { name }), ...(place && { config: place.config }) }
      await checkRepositoryIsNew(catalog, after, { name: name !== undefined, place: place !== undefined })
      if (place) await checkRepositoryUnused(catalog, repositoryId)
      return before
    },

    async recordRepositoryChange(change: ChangeRepositoryRequest & { enforcement: Enforcement | null }): Promise<void> {
      await updateRepository(catalog, change.repositoryId, change)
    },

    async checkRepositoryUnused(repositoryId: string): Promise<void> {
      await checkRepositoryUnused(catalog, repositoryId)
    },

    async checkRepositoryDeletable(repositoryId: string): Promise<void> {
      await checkDeletable(catalog, repositoryId)
    },

    async removeRepository(repositoryId: string): Promise<void> {
      await deleteRepository(catalog, repositoryId)
    },
  })
}

/** How it is, is known from the first moment, and not only when the monitor comes by. */
async function noteFound(catalog: Catalog, repositoryId: string, storage: StorageInfo): Promise<void> {
  await recordLook(catalog, repositoryId, { reached: true, storage, latencyMs: null })
}

function requestOf(row: BackupRepository): RepositoryRequest {
  const { id: repositoryId, name, repository_type: type, host_id: hostId, config, credentials_id: credentialsId } = row
  return { repositoryId, name, type, hostId, config, credentialsId }
}
