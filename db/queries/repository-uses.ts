/** Who uses a repository now, and who needs it. */
import { HoldfastError } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'

/** More are counted, not named. */
const NAMED_MAX = 20

/** Backups that have files, or are getting some: what failed or was cancelled has none. */
export async function countBackupsIn(catalog: Catalog, repositoryId: string): Promise<number> {
  const { backups } = await catalog
    .selectFrom('backup_jobs')
    .select((row) => row.fn.countAll<number>().as('backups'))
    .where('repository_id', '=', repositoryId)
    .where('status', 'not in', ['failed', 'cancelled'])
    .executeTakeFirstOrThrow()
  return backups
}

/** `REPO_IN_USE` while a backup runs into it, or somebody reads or deletes one of its backups. */
export async function checkRepositoryUnused(catalog: Catalog, repositoryId: string): Promise<void> {
  const running = await catalog
    .selectFrom('backup_jobs')
    .select('id')
    .where('repository_id', '=', repositoryId)
    .where('status', 'in', ['pending', 'running'])
    .execute()
  const pins = await pinsIn(catalog, repositoryId)
  if (running.length + pins.length === 0) return
  const uses = [counted(running.length, 'running backup'), ...new Set(pins.map((pin) => pin.reason))].filter((use) => use !== '')
  throw new HoldfastError(
    'REPO_IN_USE',
    `The repository is in use (${uses.slice(0, NAMED_MAX).join(', ')}): wait until that has ended, or cancel it.`,
    {
      details: {
        repository_id: repositoryId,
        backup_ids: running.slice(0, NAMED_MAX).map(({ id }) => id),
        pinned_by: pins.slice(0, NAMED_MAX).map((pin) => pin.owner_workflow_id),
      },
    },
  )
}

/** Restores, verifications, restore mounts and deletions all hold one. */
export async function pinsIn(
  catalog: Catalog,
  repositoryId: string,
): Promise<{ backup_id: string; owner_workflow_id: string; reason: string }[]> {
  return catalog
    .selectFrom('backup_pins')
    .innerJoin('backup_jobs', 'backup_jobs.id', 'backup_pins.backup_id')
    .select(['backup_pins.backup_id', 'backup_pins.owner_workflow_id', 'backup_pins.reason'])
    .where('backup_jobs.repository_id', '=', repositoryId)
    .execute()
}

function counted(count: number, what: string): string {
  return count === 0 ? '' : `${count} ${what}${count === 1 ? '' : 's'}`
}
