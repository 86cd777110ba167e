/** One line per request, under an id that the answer carries too. Paths only: queries, bodies and headers may hold what must not be logged. */
import { randomUUID } from 'node:crypto'
import type { MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import type { Logger } from '../../runtime/logger.ts'
import type { ApiEnv } from '../dependencies.ts'

export function requestLog(logger: Logger): MiddlewareHandler<ApiEnv> {
  return createMiddleware<ApiEnv>(async (c, next) => {
    const startedAt = performance.now()
    const requestId = acceptable(c.req.header('X-Request-Id')) ?? randomUUID()
    c.set('requestId', requestId)
    c.header('X-Request-Id', requestId)
    await next()
    const session: ApiEnv['Variables']['session'] | undefined = c.get('session')
    logger.info(
      {
        requestId,
        method: c.req.method,
        path: c.req.path.slice(0, 300),
        status: c.res.status,
        durationMs: Math.round((performance.now() - startedAt) * 10) / 10,
        ...(session && { userId: session.userId }),
      },
      'request',
    )
  })
}

/** A caller's own id, if it is harmless in a log. */
function acceptable(id: string | undefined): string | undefined {
  return id !== undefined && /^[\w.-]{1,64}$/.test(id) ? id : undefined
}
