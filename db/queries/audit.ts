/** The audit trail: who did what, when. Rows are only ever added. */
import type { Selectable } from 'kysely'
import type { JsonObject } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import type { AuditEventsTable } from '../schema.ts'
import { countUpTo, pageNewestFirst } from './page.ts'
import type { Page } from './page.ts'

export type AuditEvent = Selectable<AuditEventsTable>

export interface NewAuditEvent {
  at: Date
  userId: string
  username: string
  /** The noun, then what was done: `file.download`. */
  action: string
  subjectType: string
  subjectId: string
  /** Facts about it. Never content of files, and no secret. */
  details: JsonObject
  requestId: string
  remoteAddress: string | null
}

export interface AuditFilter {
  username?: string | undefined
  action?: string | undefined
  subjectType?: string | undefined
  subjectId?: string | undefined
  /** Not before, and before. */
  from?: Date | undefined
  to?: Date | undefined
}

/** Where an event stands in the list, newest first. */
export interface AuditPosition {
  at: Date
  id: number
}

/** Adds one event. It is durable when this returns. */
export async function insertAuditEvent(catalog: Catalog, event: NewAuditEvent): Promise<void> {
  await catalog
    .insertInto('audit_events')
    .values({
      at: event.at,
      user_id: event.userId,
      username: event.username,
      action: event.action,
      subject_type: event.subjectType,
      subject_id: event.subjectId,
      details: JSON.stringify(event.details),
      request_id: event.requestId,
      remote_address: event.remoteAddress,
    })
    .execute()
}

export async function listAuditEvents(
  catalog: Catalog,
  filter: AuditFilter,
  { after, limit }: Page<AuditPosition>,
): Promise<AuditEvent[]> {
  const position = after && { createdAt: after.at, id: after.id }
  return pageNewestFirst(filtered(catalog, filter).selectAll(), 'at', { limit, after: position }).execute()
}

/** How many match: all, or counted no further than `most`, which stays quick in a trail of any length. */
export async function countAuditEvents(catalog: Catalog, filter: AuditFilter, most?: number): Promise<number> {
  return countUpTo(catalog, filtered(catalog, filter), most)
}

function filtered(catalog: Catalog, filter: AuditFilter) {
  return catalog
    .selectFrom('audit_events')
    .$if(filter.username !== undefined, (query) => query.where('username', '=', filter.username!))
    .$if(filter.action !== undefined, (query) => query.where('action', '=', filter.action!))
    .$if(filter.subjectType !== undefined, (query) => query.where('subject_type', '=', filter.subjectType!))
    .$if(filter.subjectId !== undefined, (query) => query.where('subject_id', '=', filter.subjectId!))
    .$if(filter.from !== undefined, (query) => query.where('at', '>=', filter.from!))
    .$if(filter.to !== undefined, (query) => query.where('at', '<', filter.to!))
}
