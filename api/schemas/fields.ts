/** Fields that many requests and answers share. */
import { z } from '@hono/zod-openapi'
import { errorKinds, isErrorCode } from '../../domain/errors.ts'
import { isNormalAbsolutePath } from '../host-paths.ts'

/** An id of ours in a path, query or body. */
export const id = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[A-Za-z0-9_-]+$/, 'an id holds letters, digits, "-" and "_"')

// A name is for people, in any script; control characters would forge lines in logs and terminals.
const visible = /^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]+$/u

export const name = z
  .string()
  .min(1)
  .max(255)
  // As a check of its own: a pattern with flags has no form in OpenAPI.
  .refine((text) => visible.test(text), 'a name holds no control characters')
  .refine((text) => text.trim() === text, 'a name does not begin or end with a space')

export const hostId = z
  .string()
  .min(1)
  .max(64)
  .regex(/^[A-Za-z0-9._-]+$/, 'a host id holds letters, digits, ".", "-" and "_"')

/** An absolute path on the data host, already in its shortest form, so that what is checked is what is used. */
export const absolutePath = z
  .string()
  .min(2)
  .max(700)
  .refine(isNormalAbsolutePath, 'give an absolute path without "..", ".", "//", control characters or a slash at the end')

/** RFC 3339 in answers: UTC, milliseconds. */
export const time = z.iso.datetime()
/** RFC 3339 in requests: any zone, but a zone. */
export const timeWithZone = z.iso.datetime({ offset: true }).max(40)

export const sizeBytes = z.int().min(0)
export const sizeGb = z.number().min(0).openapi({ description: 'GiB, three decimals' })
export const percentage = z.number().min(0).max(100)

export const limit = z.coerce.number().int().min(1).max(500).default(100)
export const cursor = z.string().min(1).max(1024)

/** What every list carries beside its rows. */
export const pageFields = {
  count: z.int().min(0).openapi({ description: 'Rows in this answer' }),
  total_count: z.int().min(0).openapi({ description: 'Rows that match, over all pages' }),
  next_cursor: z.string().nullable().openapi({ description: 'Give it as `cursor` for the next page; null on the last' }),
}

export const pageQuery = { limit, cursor: cursor.optional() }

export const success = z.literal(true)

export const errorCode = z.enum(Object.keys(errorKinds).filter(isErrorCode)).openapi('ErrorCode')

/** In an answer about work that may not have failed. A union, because `nullable()` of a named schema makes the name itself nullable. */
export const errorCodeOrNull = z.union([errorCode, z.null()])

export const failure = z
  .looseObject({ success: z.literal(false), error: z.string(), error_code: errorCode, request_id: z.string() })
  .openapi('Failure', { description: 'Details of the code (ids, sizes in bytes, candidates) stand beside these fields.' })
