import { z } from '@hono/zod-openapi'
import { success, time } from './fields.ts'

const part = z.enum(['up', 'down'])

export const healthAnswer = z
  .strictObject({
    success,
    status: z.enum(['ok', 'degraded']),
    catalog: part,
    temporal: part,
    time,
  })
  .openapi('Health')
