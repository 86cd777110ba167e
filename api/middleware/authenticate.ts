/** Who asks. Every route needs a session unless it is named here: a new route is closed until someone opens it. */
import type { MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import { HoldfastError } from '../../domain/errors.ts'
import type { ApiDependencies, ApiEnv } from '../dependencies.ts'

/** Open: health for monitors, login, and the description of the API, which says nothing about this installation. */
export const openPaths: ReadonlySet<string> = new Set([
  '/api/v1/health',
  '/api/v1/auth/login',
  '/api/v1/openapi.json',
  '/api/v1/docs',
])

/** `UNAUTHENTICATED` without a valid bearer token; sets `session`. */
export function authenticate({ sessions }: Pick<ApiDependencies, 'sessions'>): MiddlewareHandler<ApiEnv> {
  return createMiddleware<ApiEnv>(async (c, next) => {
    if (!openPaths.has(c.req.path)) c.set('session', await sessions.verify(bearerToken(c.req.header('Authorization'))))
    await next()
  })
}

function bearerToken(header: string | undefined): string {
  const token = /^Bearer +([\w.~+/-]+=*)$/i.exec(header ?? '')?.[1]
  if (token === undefined) {
    throw new HoldfastError('UNAUTHENTICATED', 'Log in with POST /api/v1/auth/login and send "Authorization: Bearer <token>".')
  }
  return token
}
