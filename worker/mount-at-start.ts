/** The shares of a mover that starts. Nobody waits for it, and nothing fails because of it: whatever needs a share mounts it by itself. */
import type { Catalog } from '../db/client.ts'
import { autoMountedRepositories } from '../db/queries/auto-mounted-repositories.ts'
import type { RepositoryHost } from '../hosting/hosted-repository.ts'
import type { ShareDesk } from '../hosting/share-desk.ts'
import type { Logger } from '../runtime/logger.ts'

export interface MountsAtStart {
  catalog: Catalog
  hostId: string
  /** All of this host that are registered. */
  repositoryIds: readonly string[]
  repositories: Pick<RepositoryHost, 'mount'>
  desk: Pick<ShareDesk, 'releaseAllBut'>
  logger: Pick<Logger, 'info' | 'warn'>
}

/** Unmounts what is left of repositories that are no longer registered, and mounts those that should be ready. Never rejects. */
export async function mountAtStart(start: MountsAtStart): Promise<void> {
  await Promise.all([clearAway(start), mountThose(start)])
}

async function clearAway({ desk, repositoryIds, logger }: MountsAtStart): Promise<void> {
  try {
    const gone = await desk.releaseAllBut(repositoryIds)
    if (gone.length > 0) logger.info({ repositoryIds: gone }, 'unmounted what is no longer registered')
  } catch (error) {
    logger.warn({ err: error }, 'mounts of repositories that are gone could not be cleared away')
  }
}

async function mountThose({ catalog, hostId, repositories, logger }: MountsAtStart): Promise<void> {
  try {
    const records = await autoMountedRepositories(catalog, hostId)
    const outcomes = await Promise.allSettled(records.map((record) => repositories.mount(record)))
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome.status === 'fulfilled') continue
      const repositoryId = records[index]?.id
      logger.warn({ repositoryId, err: outcome.reason }, 'a share could not be mounted; its first use tries again')
    }
  } catch (error) {
    logger.warn({ err: error }, 'shares are not mounted before their first use')
  }
}
