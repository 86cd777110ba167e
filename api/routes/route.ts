/** What every route of the API has in common: how answers and failures are declared, and how a request that does not fit is refused. */
import { OpenAPIHono, z } from '@hono/zod-openapi'
import { HoldfastError } from '../../domain/errors.ts'
import type { ApiEnv } from '../dependencies.ts'
import { failure } from '../schemas/fields.ts'

export type Api = OpenAPIHono<ApiEnv>

const failureContent = { 'application/json': { schema: failure } }

interface AnswerDeclaration<Schema extends z.ZodType> {
  description: string
  content: { 'application/json': { schema: Schema } }
}

type FailureDeclaration = AnswerDeclaration<typeof failure>

/** The responses of a route: one success, and the failures that all share a shape. */
export function answers<Status extends number, Schema extends z.ZodType>(
  status: Status,
  description: string,
  schema: Schema,
): Record<Status, AnswerDeclaration<Schema>> & { '4XX': FailureDeclaration; '5XX': FailureDeclaration } {
  return {
    [status]: { description, content: { 'application/json': { schema } } },
    '4XX': { description: 'Refused; nothing has changed', content: failureContent },
    '5XX': { description: 'Not possible now, or failed', content: failureContent },
  }
}

/** By media type; either as OpenAPI has it, or ours. */
type StreamContent = Record<string, { schema: z.ZodType | { type: 'string'; format: 'binary' } }>

/** As {@link answers}, for a success that is a stream. */
export function streams<Status extends number>(
  status: Status,
  description: string,
  content: StreamContent,
): Record<Status, { description: string; content: StreamContent }> & { '4XX': FailureDeclaration; '5XX': FailureDeclaration } {
  return {
    [status]: { description, content },
    '4XX': { description: 'Refused', content: failureContent },
    '5XX': { description: 'Not possible now, or failed', content: failureContent },
  }
}

/** A JSON body that must be there. */
export function jsonBody<Schema extends z.ZodType>(
  schema: Schema,
): { required: true; content: { 'application/json': { schema: Schema } } } {
  return { required: true, content: { 'application/json': { schema } } }
}

/** On every POST that starts work. */
export const idempotencyHeader = z.object({
  'idempotency-key': z
    .string()
    .min(1)
    .max(191)
    .regex(/^[\x21-\x7e]+$/, 'printable ASCII without spaces')
    .optional()
    .openapi({ description: 'The same key with the same request starts once and is answered alike, for 24 hours' }),
})

/** An empty app for one resource, whose refusals name the fields at fault and never repeat a value. */
export function createApi(): Api {
  return new OpenAPIHono<ApiEnv>({
    defaultHook: (result) => {
      if (!result.success) throw refusal(result.target, result.error)
    },
  })
}

const places: Record<string, string> = { json: 'body', query: 'query', param: 'path', header: 'header' }

function refusal(target: string, error: z.ZodError): HoldfastError {
  const issues = error.issues
    .slice(0, 20)
    .map((issue) => ({ path: issue.path.join('.').slice(0, 200), message: issue.message.slice(0, 300) }))
  const first = issues[0]
  const where = first?.path ? `"${first.path}" in the ${places[target] ?? target}` : `the ${places[target] ?? target}`
  return new HoldfastError('INVALID_REQUEST', `The request was refused: ${where}: ${first?.message ?? 'not valid'}.`, {
    details: { issues },
  })
}
