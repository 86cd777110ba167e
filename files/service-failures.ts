/**
 * From errors to the answers of the file service. The API translates codes by its own table (api/errors.ts); the status here tells whoever looks at
 * the traffic, and whether a request was wrong (4xx) or could not be done (5xx).
 */
import type { ServerResponse } from 'node:http'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { HoldfastError } from '../domain/errors.ts'
import type { ErrorCode } from '../domain/errors.ts'
import type { Logger } from '../runtime/logger.ts'
import type { FileServiceFailure } from './mounted-file.ts'

/** Codes that are not here are failures of ours: 500, or 503 when trying again may help. */
const statuses: Partial<Record<ErrorCode, ContentfulStatusCode>> = {
  INVALID_REQUEST: 400,
  FILE_PATH_INVALID: 400,
  UNAUTHENTICATED: 401,
  ROUTE_NOT_FOUND: 404,
  FILE_NOT_FOUND: 404,
  NOT_A_FILE: 409,
  NOT_A_DIRECTORY: 409,
  RANGE_NOT_SATISFIABLE: 416,
  FILE_SYSTEM_UNREADABLE: 422,
  FILE_READ_FAILED: 502,
}

/**
 * What nobody foresaw is logged whole, and told as nothing but that. After the first byte there is nobody to tell: the connection was broken, and the log
 * has the reason.
 */
export function answerServiceFailure(error: unknown, c: Context, outgoing: ServerResponse, logger: Logger): Response {
  if (outgoing.headersSent) logger.warn({ err: error, path: c.req.path }, 'a transfer was broken off')
  if (outgoing.headersSent || outgoing.destroyed) return RESPONSE_ALREADY_SENT
  const known = error instanceof HoldfastError ? error : unforeseen(error, logger)
  const sizeBytes = known.details['size_bytes']
  if (known.code === 'RANGE_NOT_SATISFIABLE') c.header('Content-Range', `bytes */${Number(sizeBytes)}`)
  const failure: FileServiceFailure = { code: known.code, message: known.message, details: known.details }
  return c.json(failure, statuses[known.code] ?? (known.retryable ? 503 : 500))
}

function unforeseen(error: unknown, logger: Logger): HoldfastError {
  logger.error({ err: error }, 'the file service failed')
  return new HoldfastError('INTERNAL', 'Something went wrong in the file service of the mover; its log holds the reason.')
}
