/** Samples of repositories' space: one for each look that was answered, kept close together for a week and one for each hour after that. */
import { sql } from 'kysely'
import type { Selectable } from 'kysely'
import type { HealthState, StorageLook } from '../../domain/storage-health.ts'
import type { Catalog } from '../client.ts'
import type { RepositorySamplesTable } from '../schema.ts'

export type RepositorySample = Selectable<RepositorySamplesTable>

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS

/** Whoever asks for looks in a row adds nothing to the trend. */
const APART_MIN_MS = MINUTE_MS
/** Every sample is kept for so long. */
export const EVERY_SAMPLE_DAYS = 7
/** The first of each hour is kept for so long. */
export const SAMPLES_DAYS = 400
/** How far behind the week samples are thinned out: what was missed longer ago stays close together, until it goes altogether. */
const THINNED_DAYS = 8
/** Points of a trend: more than a chart can show. */
export const TREND_POINTS_MAX = 500

/** Nothing when there is one of the last minute. Call it in the transaction that holds the repository's row. */
export async function insertSample(
  catalog: Catalog,
  repositoryId: string,
  { look, health, at }: { look: StorageLook & { reached: true }; health: HealthState; at: Date },
): Promise<void> {
  const recent = await catalog
    .selectFrom('repository_samples')
    .select('sampled_at')
    .where('repository_id', '=', repositoryId)
    .where('sampled_at', '>', new Date(at.getTime() - APART_MIN_MS))
    .limit(1)
    .executeTakeFirst()
  if (recent) return
  const { storage, latencyMs } = look
  await catalog
    .insertInto('repository_samples')
    .values({
      repository_id: repositoryId,
      sampled_at: at,
      total_bytes: storage.totalBytes,
      used_bytes: storage.usedBytes,
      available_bytes: storage.availableBytes,
      used_inodes: storage.usedInodes,
      total_inodes: storage.totalInodes,
      latency_ms: latencyMs === null ? null : Math.round(latencyMs),
      health,
    })
    .execute()
}

/** Thins out what is older than a week and removes what is too old. Cheap when it runs often. */
export async function pruneSamples(catalog: Catalog, now: Date): Promise<void> {
  const daysAgo = (days: number) => new Date(now.getTime() - days * DAY_MS)
  await catalog.deleteFrom('repository_samples').where('sampled_at', '<', daysAgo(SAMPLES_DAYS)).execute()
  await sql`
    delete later from repository_samples later
      join repository_samples earlier
        on earlier.repository_id = later.repository_id
        and earlier.sampled_at < later.sampled_at
        and earlier.sampled_at >= date_format(later.sampled_at, '%Y-%m-%d %H:00:00')
    where later.sampled_at < ${daysAgo(EVERY_SAMPLE_DAYS)}
      and later.sampled_at >= ${daysAgo(EVERY_SAMPLE_DAYS + THINNED_DAYS)}`.execute(catalog)
}

/** Oldest first, at most {@link TREND_POINTS_MAX}: of each stretch of time the last sample, as it was found. */
export async function readTrend(
  catalog: Catalog,
  repositoryId: string,
  { from, to }: { from: Date; to: Date },
): Promise<RepositorySample[]> {
  const stretchSeconds = Math.max(1, Math.ceil((to.getTime() - from.getTime()) / 1000 / (TREND_POINTS_MAX - 1)))
  const stretch = sql`floor((unix_timestamp(sampled_at) - unix_timestamp(${from})) / ${stretchSeconds})`
  const lasts = catalog
    .selectFrom('repository_samples')
    .select((row) => row.fn.max('sampled_at').as('last_at'))
    .where('repository_id', '=', repositoryId)
    .where('sampled_at', '>=', from)
    .where('sampled_at', '<=', to)
    .groupBy(stretch)
  return catalog
    .selectFrom(lasts.as('lasts'))
    .innerJoin('repository_samples', 'repository_samples.sampled_at', 'lasts.last_at')
    .selectAll('repository_samples')
    .where('repository_samples.repository_id', '=', repositoryId)
    .orderBy('repository_samples.sampled_at')
    .execute()
}
