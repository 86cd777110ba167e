/** Signing in. */
import { z } from '@hono/zod-openapi'
import { success, time } from './fields.ts'

// Long enough for any password people use; hashing a megabyte on request would be an attack.
export const loginRequest = z
  .strictObject({ username: z.string().min(1).max(191), password: z.string().min(1).max(1024) })
  .openapi('LoginRequest')

export const role = z.enum(['admin', 'operator', 'viewer'])

const user = z.strictObject({ id: z.string(), username: z.string(), role }).openapi('User')

export const loginAnswer = z.strictObject({ success, token: z.string(), expires_at: time, user }).openapi('LoginAnswer')

export const meAnswer = z.strictObject({ success, user }).openapi('MeAnswer')
