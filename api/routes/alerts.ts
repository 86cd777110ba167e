/** Alerts: list, one, acknowledge. They are opened and resolved by what they are about. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { acknowledgeAlert, alertState, countAlerts, listAlerts, requireAlert } from '../../db/queries/alerts.ts'
import type { AlertRow } from '../../db/queries/alerts.ts'
import { repositoryNames } from '../../db/queries/repositories.ts'
import { auditOfAlert } from '../audit.ts'
import type { AuditTrail } from '../audit.ts'
import { timeOrNull } from '../answers/units.ts'
import { cursorByTime, readTimeCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import { acknowledgeAlertAnswer, alertAnswer, alertListAnswer, alertListQuery, alertParameter } from '../schemas/alerts.ts'
import type { alert } from '../schemas/alerts.ts'
import { answers, createApi } from './route.ts'
import type { Api } from './route.ts'

const tags = ['alerts']
type Shown = z.infer<typeof alert>

const listRoute = createRoute({
  method: 'get',
  path: '/alerts',
  tags,
  summary: 'What somebody has to know of, newest first',
  middleware: permit('alert.view'),
  request: { query: alertListQuery },
  responses: answers(200, 'One page', alertListAnswer),
})

const oneRoute = createRoute({
  method: 'get',
  path: '/alerts/{id}',
  tags,
  summary: 'One alert',
  middleware: permit('alert.view'),
  request: { params: alertParameter },
  responses: answers(200, 'The alert', alertAnswer),
})

const acknowledgeRoute = createRoute({
  method: 'post',
  path: '/alerts/{id}/acknowledge',
  tags,
  summary: 'Say that somebody takes care of it',
  description: 'It stays until its cause is over. Acknowledged or resolved before, it stays as it is.',
  middleware: permit('alert.acknowledge'),
  request: { params: alertParameter },
  responses: answers(200, 'Noted', acknowledgeAlertAnswer),
})

export function alerts({ catalog, now }: ApiDependencies, trail: AuditTrail): Api {
  const shown = async (rows: readonly AlertRow[]): Promise<Shown[]> => {
    const ids = rows.flatMap((row) => row.repository_id ?? [])
    const names = await repositoryNames(catalog, [...new Set(ids)])
    return rows.map((row) => alertShown(row, names))
  }
  const one = async (row: AlertRow): Promise<Shown> => (await shown([row]))[0]!

  return createApi()
    .openapi(listRoute, async (c) => {
      const { limit, cursor, repository_id: repositoryId, ...asked } = c.req.valid('query')
      const filter = { ...asked, repositoryId }
      const [found, total] = await Promise.all([
        listAlerts(catalog, filter, { limit: limit + 1, after: readTimeCursor(cursor) }),
        countAlerts(catalog, filter),
      ])
      const page = found.slice(0, limit)
      const last = found.length > limit ? page.at(-1) : undefined
      return c.json(
        {
          success: true as const,
          alerts: await shown(page),
          count: page.length,
          total_count: total,
          next_cursor: last ? cursorByTime({ createdAt: last.opened_at, id: last.id }) : null,
        },
        200,
      )
    })
    .openapi(oneRoute, async (c) => {
      const row = await requireAlert(catalog, c.req.valid('param').id)
      return c.json({ success: true as const, alert: await one(row) }, 200)
    })
    .openapi(acknowledgeRoute, async (c) => {
      const { id, kind, repository_id } = await requireAlert(catalog, c.req.valid('param').id)
      await trail.note(c, auditOfAlert('alert.acknowledge', id, { kind, repository_id }))
      const row = await acknowledgeAlert(catalog, id, { by: c.get('session').username, at: now() })
      return c.json({ success: true as const, message: messageOf(row), alert: await one(row) }, 200)
    })
}

function messageOf(row: AlertRow): string {
  if (row.resolved_at !== null) return 'Alert was resolved already'
  return `Alert acknowledged by ${row.acknowledged_by}`
}

function alertShown(row: AlertRow, names: ReadonlyMap<string, string>): Shown {
  return {
    id: row.id,
    kind: row.kind,
    severity: row.severity,
    state: alertState(row),
    message: row.message,
    repository_id: row.repository_id,
    repository_name: row.repository_id === null ? null : (names.get(row.repository_id) ?? null),
    backup_id: row.backup_id,
    details: row.details,
    opened_at: row.opened_at.toISOString(),
    seen_at: row.seen_at.toISOString(),
    acknowledged_at: timeOrNull(row.acknowledged_at),
    acknowledged_by: row.acknowledged_by,
    resolved_at: timeOrNull(row.resolved_at),
  }
}
