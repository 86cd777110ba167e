/** The audit trail. */
import { z } from '@hono/zod-openapi'
import { name, pageFields, pageQuery, success, time, timeWithZone } from './fields.ts'

const word = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[a-z.-]+$/, 'an action or a kind of subject holds lower-case letters, "." and "-"')

export const auditListQuery = z.strictObject({
  ...pageQuery,
  username: name.optional(),
  action: word.optional().openapi({ description: '`file.download`, `mount.open` …' }),
  subject_type: word.optional(),
  subject_id: name.optional(),
  from: timeWithZone.optional().openapi({ description: 'Not before' }),
  to: timeWithZone.optional().openapi({ description: 'Before' }),
})

const auditEvent = z
  .strictObject({
    id: z.int(),
    at: time,
    user_id: z.string(),
    username: z.string(),
    action: z.string(),
    subject_type: z.string(),
    subject_id: z.string(),
    details: z.record(z.string(), z.json()).openapi({ type: 'object', description: 'Path, range, how it ended …' }),
    request_id: z.string(),
    remote_address: z.string().nullable(),
  })
  .openapi('AuditEvent')

export const auditListAnswer = z.strictObject({ success, events: z.array(auditEvent), ...pageFields }).openapi('AuditList')
