/** What looks at repositories found: noted on the row, as a sample, and as alerts. */
import type { Selectable, Transaction } from 'kysely'
import { alertCause } from '../../domain/alerts.ts'
import type { AlertKind } from '../../domain/alerts.ts'
import { isShareType, shareTypes } from '../../domain/repository-place.ts'
import type { RepositoryRecord } from '../../domain/repository-place.ts'
import { DEFAULT_THRESHOLDS, judgeLook, storageAlertKinds } from '../../domain/storage-health.ts'
import type { HealthState, HealthVerdict, StorageAlertKind, StorageLook, Thresholds } from '../../domain/storage-health.ts'
import type { StorageInfo } from '../../domain/storage.ts'
import type { Catalog } from '../client.ts'
import type { BackupRepositoriesTable, Database } from '../schema.ts'
import { openAlert, resolveAlert } from './alerts.ts'
import { insertSample } from './repository-samples.ts'

type RepositoryRow = Selectable<BackupRepositoriesTable>
type SpaceColumns = Pick<
  RepositoryRow,
  'total_size_bytes' | 'used_size_bytes' | 'available_size_bytes' | 'total_inodes' | 'used_inodes'
>

/** What a look changed; for the log. */
export interface RecordedLook {
  repositoryId: string
  name: string
  health: HealthState
  /** Before the look. */
  earlierHealth: HealthState
  message: string | null
  opened: StorageAlertKind[]
  resolved: StorageAlertKind[]
}

export interface RepositoryOfHost extends RepositoryRecord {
  hostId: string
}

/**
 * Every repository, also those that an administrator switched off, for what lies in them is still wanted; but a share that is switched off is
 * left alone, because a look would mount it again. `only`: that one, whatever it is.
 */
export async function listRepositoriesToLookAt(catalog: Catalog, only: string | null): Promise<RepositoryOfHost[]> {
  const rows = await catalog
    .selectFrom('backup_repositories')
    .select(['id', 'repository_type', 'config', 'credentials_id', 'host_id'])
    .$if(only !== null, (query) => query.where('id', '=', only))
    .$if(only === null, (query) =>
      query.where((row) => row.or([row('enabled', '=', true), row('repository_type', 'not in', shareTypes)])),
    )
    .orderBy('id')
    .execute()
  return rows.map((row) => ({
    id: row.id,
    type: row.repository_type,
    config: row.config,
    credentialsId: row.credentials_id,
    hostId: row.host_id,
  }))
}

/** By name. There are few: an administrator made each by hand. */
export async function everyRepository(catalog: Catalog): Promise<RepositoryRow[]> {
  return catalog.selectFrom('backup_repositories').selectAll().orderBy('name').orderBy('id').execute()
}

/** Whole or not at all. `null`: it is not registered (any more). The same look again changes nothing but the times. */
export async function recordLook(
  catalog: Catalog,
  repositoryId: string,
  look: StorageLook,
  at: Date = new Date(),
): Promise<RecordedLook | null> {
  return catalog.transaction().execute(async (transaction) => {
    const row = await transaction
      .selectFrom('backup_repositories')
      .selectAll()
      .where('id', '=', repositoryId)
      .forUpdate()
      .executeTakeFirst()
    if (!row) return null
    const alerts = await openStorageAlerts(transaction, repositoryId)
    const judged = judgeLook(look, { stopped: row.stopped_at !== null, alerts }, thresholdsOfRow(row))
    const verdict = isLeftAlone(row) ? withoutOfflineAlert(judged) : judged
    await transaction
      .updateTable('backup_repositories')
      .set({ ...findings(look), ...judgement(row, verdict, at), last_check_at: at })
      .where('id', '=', repositoryId)
      .execute()
    const changed = await settleAlerts(transaction, repositoryId, verdict, alerts, at)
    if (look.reached) await insertSample(transaction, repositoryId, { look, health: verdict.health, at })
    const { health, message } = verdict
    return { repositoryId, name: row.name, health, earlierHealth: row.health, message, ...changed }
  })
}

/**
 * By other thresholds, from what the last look found: who moves them does not wait for the next one. A stop that the new ones do not call for is over.
 * Nothing before the first look. Call it in the transaction that holds the repository's row.
 */
export async function judgeAgain(transaction: Transaction<Database>, repositoryId: string, at: Date = new Date()): Promise<void> {
  const rows = transaction.selectFrom('backup_repositories').selectAll().where('id', '=', repositoryId)
  const row = await rows.executeTakeFirstOrThrow()
  if (row.health === 'unknown') return
  const alerts = await openStorageAlerts(transaction, repositoryId)
  const storage = { ...storageOfRow(row), writable: !alerts.has('repository_read_only') }
  const verdict = judgeLook({ reached: true, storage, latencyMs: null }, { stopped: false, alerts }, thresholdsOfRow(row))
  const judged = judgement(row, verdict, at)
  // Only a look can tell that it is back.
  const isAway = row.health === 'offline'
  const columns = isAway ? { stopped_at: judged.stopped_at } : judged
  await transaction.updateTable('backup_repositories').set(columns).where('id', '=', repositoryId).execute()
  await settleAlerts(transaction, repositoryId, isAway ? { ...verdict, unknown: ['repository_offline'] } : verdict, alerts, at)
}

/** A share that is switched off: only who asks for it has it looked at. */
export function isLeftAlone({ enabled, repository_type: type }: Pick<RepositoryRow, 'enabled' | 'repository_type'>): boolean {
  return !enabled && isShareType(type)
}

/** Nobody would see that its cause is over. */
function withoutOfflineAlert(verdict: HealthVerdict): HealthVerdict {
  return { ...verdict, open: verdict.open.filter(({ kind }) => kind !== 'repository_offline') }
}

/** The default ones where an administrator chose none. */
export function thresholdsOfRow(row: Pick<RepositoryRow, 'warning_percent' | 'critical_percent'>): Thresholds {
  return {
    warningPercent: row.warning_percent ?? DEFAULT_THRESHOLDS.warningPercent,
    criticalPercent: row.critical_percent ?? DEFAULT_THRESHOLDS.criticalPercent,
  }
}

/** Sizes stay what they were when nobody could see them. */
function findings(look: StorageLook) {
  if (!look.reached) return { latency_ms: null }
  const { storage, latencyMs } = look
  return { ...spaceColumns(storage), latency_ms: latencyMs === null ? null : Math.round(latencyMs) }
}

export function spaceColumns(storage: StorageInfo): SpaceColumns {
  return {
    total_size_bytes: storage.totalBytes,
    used_size_bytes: storage.usedBytes,
    available_size_bytes: storage.availableBytes,
    total_inodes: storage.totalInodes,
    used_inodes: storage.usedInodes,
  }
}

export function storageOfRow(row: SpaceColumns): Omit<StorageInfo, 'writable'> {
  return {
    totalBytes: row.total_size_bytes,
    usedBytes: row.used_size_bytes,
    availableBytes: row.available_size_bytes,
    totalInodes: row.total_inodes,
    usedInodes: row.used_inodes,
  }
}

function judgement(row: RepositoryRow, { health, message, stopped }: HealthVerdict, at: Date) {
  return {
    health,
    health_message: message,
    health_since: row.health === health ? (row.health_since ?? at) : at,
    stopped_at: stopped ? (row.stopped_at ?? at) : null,
  }
}

async function openStorageAlerts(catalog: Catalog, repositoryId: string): Promise<Set<AlertKind>> {
  const causes = storageAlertKinds.map((kind) => alertCause(kind, repositoryId))
  const rows = await catalog.selectFrom('alerts').select('kind').where('open_cause', 'in', causes).execute()
  return new Set(rows.map((row) => row.kind))
}

/** A repository around the threshold crosses it with every backup and deletion: that is one matter, and who knows of it is not told again. */
const SAME_WARNING_MS = 60 * 60_000

async function settleAlerts(
  catalog: Catalog,
  repositoryId: string,
  { open, unknown }: HealthVerdict,
  before: ReadonlySet<AlertKind>,
  at: Date,
): Promise<{ opened: StorageAlertKind[]; resolved: StorageAlertKind[] }> {
  const [opened, resolved]: [StorageAlertKind[], StorageAlertKind[]] = [[], []]
  for (const kind of storageAlertKinds) {
    const wanted = open.find((alert) => alert.kind === kind)
    if (wanted) {
      const again = kind === 'storage_warning' ? { reopenWithinMs: SAME_WARNING_MS } : {}
      const isNew = await openAlert(catalog, { ...wanted, ...again, subject: repositoryId, repositoryId }, at)
      if (isNew) opened.push(kind)
    } else if (before.has(kind) && !unknown.includes(kind)) {
      if (await resolveAlert(catalog, kind, repositoryId, at)) resolved.push(kind)
    }
  }
  return { opened, resolved }
}
