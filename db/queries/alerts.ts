/** Alerts: opened once for each cause, seen again while it lasts, acknowledged by people, resolved when it is over. */
import { sql } from 'kysely'
import type { Selectable } from 'kysely'
import { ulid } from 'ulid'
import { alertCause } from '../../domain/alerts.ts'
import type { AlertKind, AlertSeverity, AlertState } from '../../domain/alerts.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import type { AlertsTable } from '../schema.ts'
import { countUpTo, pageNewestFirst } from './page.ts'
import type { NewestFirst, Page } from './page.ts'

export type AlertRow = Selectable<AlertsTable>

export interface NewAlert {
  kind: AlertKind
  /** With the kind the cause: a repository's or a backup's id. */
  subject: string
  severity: AlertSeverity
  /** What happened, to what, what to do. For people. */
  message: string
  /** The alert goes with them. */
  repositoryId?: string | null
  backupId?: string | null
  details?: JsonObject
  /** One of this cause that was resolved no longer ago is opened again instead of a new one: for causes that come and go. */
  reopenWithinMs?: number
}

/**
 * Opens an alert, or notes on the open one of this cause that it lasts: words, severity and details are the newest, acknowledgement and
 * beginning stay. Whoever asks at the same time, one alert is open. Returns whether it is a new one. Also inside a transaction.
 */
export async function openAlert(catalog: Catalog, alert: NewAlert, at: Date = new Date()): Promise<boolean> {
  const { kind, subject, severity, message, repositoryId = null, backupId = null, details = {}, reopenWithinMs } = alert
  const cause = alertCause(kind, subject)
  const now = { severity, message, details: JSON.stringify(details) }
  const open = await openIdOf(catalog, cause)
  if (open !== undefined && (await seenAgain(catalog, open, now, at))) return false
  const since = reopenWithinMs === undefined ? null : new Date(at.getTime() - reopenWithinMs)
  if (open === undefined && since !== null && (await reopened(catalog, cause, since, { ...now, seen_at: at }))) return false
  const id = `alert-${ulid().toLowerCase()}`
  await catalog
    .insertInto('alerts')
    .values({
      id,
      kind,
      cause,
      ...now,
      repository_id: repositoryId,
      backup_id: backupId,
      opened_at: at,
      seen_at: at,
      acknowledged_at: null,
      acknowledged_by: null,
      resolved_at: null,
    })
    .onDuplicateKeyUpdate({ ...now, seen_at: later(at) })
    .execute()
  // Not the count of rows: that says different things of an unchanged row, by how the connection was opened.
  return (await openIdOf(catalog, cause)) === id
}

/** Ends the open alert of this cause. Returns whether there was one. Idempotent. */
export async function resolveAlert(catalog: Catalog, kind: AlertKind, subject: string, at: Date = new Date()): Promise<boolean> {
  const open = await openIdOf(catalog, alertCause(kind, subject))
  if (open === undefined) return false
  const result = await catalog
    .updateTable('alerts')
    .set({ resolved_at: at })
    .where('id', '=', open)
    .where('resolved_at', 'is', null)
    .executeTakeFirst()
  return result.numUpdatedRows > 0n
}

/**
 * Says that somebody knows of it. It stays until its cause is over. Acknowledged or resolved before: nothing changes. `ALERT_NOT_FOUND`.
 * Returns the alert as it stands then.
 */
export async function acknowledgeAlert(catalog: Catalog, id: string, { by, at }: { by: string; at: Date }): Promise<AlertRow> {
  await catalog
    .updateTable('alerts')
    .set({ acknowledged_at: at, acknowledged_by: by })
    .where('id', '=', id)
    .where('acknowledged_at', 'is', null)
    .where('resolved_at', 'is', null)
    .execute()
  return requireAlert(catalog, id)
}

/** `ALERT_NOT_FOUND` */
export async function requireAlert(catalog: Catalog, id: string): Promise<AlertRow> {
  const row = await catalog.selectFrom('alerts').selectAll().where('id', '=', id).executeTakeFirst()
  if (row) return row
  throw new HoldfastError('ALERT_NOT_FOUND', 'There is no such alert (any more): GET /alerts lists them.', {
    details: { alert_id: id },
  })
}

export interface AlertFilter {
  /** `unresolved`: open or acknowledged. */
  state?: AlertState | 'unresolved' | undefined
  kind?: AlertKind | undefined
  repositoryId?: string | undefined
}

/** Newest first. */
export async function listAlerts(catalog: Catalog, filter: AlertFilter, page: Page<NewestFirst>): Promise<AlertRow[]> {
  return pageNewestFirst(filtered(catalog, filter).selectAll(), 'opened_at', page).execute()
}

/** How many match: all, or counted no further than `most`. */
export async function countAlerts(catalog: Catalog, filter: AlertFilter, most?: number): Promise<number> {
  return countUpTo(catalog, filtered(catalog, filter), most)
}

/** An alert is resolved, or acknowledged, or open. */
export function alertState(row: Pick<AlertRow, 'acknowledged_at' | 'resolved_at'>): AlertState {
  if (row.resolved_at !== null) return 'resolved'
  return row.acknowledged_at === null ? 'open' : 'acknowledged'
}

/** Forgets alerts that were resolved before `before`. Returns how many. */
export async function pruneAlerts(catalog: Catalog, before: Date): Promise<number> {
  const result = await catalog.deleteFrom('alerts').where('resolved_at', '<', before).executeTakeFirst()
  return Number(result.numDeletedRows)
}

// Without a lock: a locking read of a row that is not there would keep all others from opening theirs beside it.
async function openIdOf(catalog: Catalog, cause: string): Promise<string | undefined> {
  const row = await catalog.selectFrom('alerts').select('id').where('open_cause', '=', cause).executeTakeFirst()
  return row?.id
}

/** The last one of the cause, if it was resolved after `since`. */
async function reopened(
  catalog: Catalog,
  cause: string,
  since: Date,
  now: { severity: AlertSeverity; message: string; details: string; seen_at: Date },
): Promise<boolean> {
  const result = await catalog
    .updateTable('alerts')
    .set({ ...now, resolved_at: null })
    .where('cause', '=', cause)
    .where('resolved_at', '>=', since)
    .orderBy('resolved_at', 'desc')
    .limit(1)
    .executeTakeFirst()
  return result.numUpdatedRows > 0n
}

/** False when it was resolved meanwhile. */
async function seenAgain(
  catalog: Catalog,
  id: string,
  now: { severity: AlertSeverity; message: string; details: string },
  at: Date,
): Promise<boolean> {
  await catalog
    .updateTable('alerts')
    .set({ ...now, seen_at: later(at) })
    .where('id', '=', id)
    .where('resolved_at', 'is', null)
    .execute()
  const row = await catalog.selectFrom('alerts').select('resolved_at').where('id', '=', id).executeTakeFirst()
  return row !== undefined && row.resolved_at === null
}

function later(at: Date) {
  return sql<Date>`greatest(seen_at, ${at})`
}

function filtered(catalog: Catalog, { state, kind, repositoryId }: AlertFilter) {
  return catalog
    .selectFrom('alerts')
    .$if(state === 'resolved', (query) => query.where('resolved_at', 'is not', null))
    .$if(state !== undefined && state !== 'resolved', (query) => query.where('open_cause', 'is not', null))
    .$if(state === 'open', (query) => query.where('acknowledged_at', 'is', null))
    .$if(state === 'acknowledged', (query) => query.where('acknowledged_at', 'is not', null))
    .$if(kind !== undefined, (query) => query.where('kind', '=', kind!))
    .$if(repositoryId !== undefined, (query) => query.where('repository_id', '=', repositoryId!))
}
