/** The audit trail: who did what, when. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { countAuditEvents, listAuditEvents } from '../../db/queries/audit.ts'
import type { AuditEvent } from '../../db/queries/audit.ts'
import { cursorByEvent, readEventCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import { auditListAnswer, auditListQuery } from '../schemas/audit.ts'
import type { TotalOf } from '../totals.ts'
import { answers, createApi } from './route.ts'
import type { Api } from './route.ts'

const listRoute = createRoute({
  method: 'get',
  path: '/audit',
  tags: ['audit'],
  summary: 'Who did what, newest first',
  middleware: permit('audit.view'),
  request: { query: auditListQuery },
  responses: answers(200, 'One page', auditListAnswer),
})

export function audit({ catalog }: ApiDependencies, totalOf: TotalOf): Api {
  return createApi().openapi(listRoute, async (c) => {
    const { limit, cursor, from, to, ...asked } = c.req.valid('query')
    const filter = {
      username: asked.username,
      action: asked.action,
      subjectType: asked.subject_type,
      subjectId: asked.subject_id,
      from: from === undefined ? undefined : new Date(from),
      to: to === undefined ? undefined : new Date(to),
    }
    const [found, total] = await Promise.all([
      listAuditEvents(catalog, filter, { limit: limit + 1, after: readEventCursor(cursor) }),
      totalOf('audit', filter, (most) => countAuditEvents(catalog, filter, most)),
    ])
    const page = found.slice(0, limit)
    const last = found.length > limit ? page.at(-1) : undefined
    return c.json(
      {
        success: true as const,
        events: page.map(eventAnswer),
        count: page.length,
        total_count: total,
        next_cursor: last ? cursorByEvent(last) : null,
      },
      200,
    )
  })
}

function eventAnswer({ at, ...event }: AuditEvent): z.infer<typeof auditListAnswer>['events'][number] {
  return { ...event, at: at.toISOString() }
}
