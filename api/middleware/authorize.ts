/** Who may do it: the least role of each verb stands in security/permissions.ts. */
import type { MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import { HoldfastError } from '../../domain/errors.ts'
import { leastRoles, mayDo } from '../../security/permissions.ts'
import type { Permission } from '../../security/permissions.ts'
import type { ApiEnv } from '../dependencies.ts'

/** `FORBIDDEN`, with the role that is needed, when the session's role does not reach. */
export function permit(permission: Permission): MiddlewareHandler<ApiEnv> {
  return createMiddleware<ApiEnv>(async (c, next) => {
    const { role } = c.get('session')
    if (!mayDo(role, permission)) {
      throw new HoldfastError('FORBIDDEN', `This needs the role "${leastRoles[permission]}"; you have "${role}".`, {
        details: { permission, required_role: leastRoles[permission], role },
      })
    }
    await next()
  })
}
