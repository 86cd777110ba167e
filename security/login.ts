/** From a user name and a password to a session. */
import type { Catalog } from '../db/client.ts'
import { findUserByName } from '../db/queries/users.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { LoginThrottle } from './login-throttle.ts'
import { verifyPassword } from './passwords.ts'
import type { Sessions, SessionUser } from './sessions.ts'

export interface LoginRequest {
  username: string
  password: string
  /** Where the request comes from, as the connection says, not as a header claims. */
  address: string
}

export interface Login {
  token: string
  expiresAt: Date
  user: SessionUser
}

export interface LoginDependencies {
  catalog: Catalog
  sessions: Sessions
  throttle: LoginThrottle
}

/**
 * `LOGIN_THROTTLED` (with `retry_after_seconds`), `CATALOG_UNAVAILABLE`, or `INVALID_CREDENTIALS`: the same words and the same
 * time whether the user is unknown or the password wrong.
 */
export async function logIn({ catalog, sessions, throttle }: LoginDependencies, request: LoginRequest): Promise<Login> {
  throttle.admit(request.username, request.address)
  const user = await findUserByName(catalog, request.username)
  const matches = await verifyPassword(user?.password_hash, request.password)
  if (user === undefined || !matches) {
    throw new HoldfastError('INVALID_CREDENTIALS', 'The user name or the password is wrong.')
  }
  throttle.succeeded(request.username, request.address)
  const sessionUser: SessionUser = { userId: user.id, username: user.username, role: user.role }
  return { ...(await sessions.issue(sessionUser)), user: sessionUser }
}
