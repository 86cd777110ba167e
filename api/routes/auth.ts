/** Logging in, and who one is. */
import { createRoute } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { logIn } from '../../security/login.ts'
import type { SessionUser } from '../../security/sessions.ts'
import type { ApiDependencies, ApiEnv } from '../dependencies.ts'
import { loginAnswer, loginRequest, meAnswer } from '../schemas/auth.ts'
import { answers, createApi, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const loginRoute = createRoute({
  method: 'post',
  path: '/auth/login',
  tags: ['auth'],
  summary: 'Exchange a user name and a password for a bearer token',
  security: [],
  request: { body: jsonBody(loginRequest) },
  responses: answers(200, 'Send the token as "Authorization: Bearer …" until it expires', loginAnswer),
})

const meRoute = createRoute({
  method: 'get',
  path: '/auth/me',
  tags: ['auth'],
  summary: 'The user behind the token',
  responses: answers(200, 'The user', meAnswer),
})

export function auth(dependencies: ApiDependencies): Api {
  return createApi()
    .openapi(loginRoute, async (c) => {
      const { username, password } = c.req.valid('json')
      const login = await logIn(dependencies, { username, password, address: addressOf(c) })
      return c.json(
        { success: true as const, token: login.token, expires_at: login.expiresAt.toISOString(), user: userAnswer(login.user) },
        200,
      )
    })
    .openapi(meRoute, (c) => c.json({ success: true as const, user: userAnswer(c.get('session')) }, 200))
}

function userAnswer({ userId, username, role }: SessionUser) {
  return { id: userId, username, role }
}

/** As the connection says: a header could name any address and so get round the throttle. */
function addressOf(c: Context<ApiEnv>): string {
  return c.env?.incoming?.socket.remoteAddress ?? 'unknown'
}
