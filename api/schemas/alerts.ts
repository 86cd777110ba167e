/** Alerts. */
import { z } from '@hono/zod-openapi'
import { alertKinds, alertStates } from '../../domain/alerts.ts'
import { id, pageFields, pageQuery, success, time } from './fields.ts'

export const alertParameter = z.strictObject({ id: id.openapi({ param: { name: 'id', in: 'path' } }) })

const kind = z.enum(alertKinds)

export const alertListQuery = z.strictObject({
  ...pageQuery,
  state: z
    .enum([...alertStates, 'unresolved'])
    .optional()
    .openapi({ description: '`unresolved`: open or acknowledged. All without' }),
  kind: kind.optional(),
  repository_id: id.optional(),
})

export const alert = z
  .strictObject({
    id: z.string(),
    kind,
    severity: z.enum(['warning', 'critical']),
    state: z.enum(alertStates),
    message: z.string(),
    repository_id: z.string().nullable(),
    repository_name: z.string().nullable(),
    backup_id: z.string().nullable(),
    details: z.record(z.string(), z.json()).openapi({ type: 'object', description: 'Facts for machines' }),
    opened_at: time,
    seen_at: time.openapi({ description: 'When its cause was last seen to last' }),
    acknowledged_at: time.nullable(),
    acknowledged_by: z.string().nullable(),
    resolved_at: time.nullable(),
  })
  .openapi('Alert')

export const alertListAnswer = z.strictObject({ success, alerts: z.array(alert), ...pageFields }).openapi('AlertList')

export const alertAnswer = z.strictObject({ success, alert }).openapi('AlertAnswer')

export const acknowledgeAlertAnswer = z.strictObject({ success, message: z.string(), alert }).openapi('AcknowledgeAlertAnswer')
