/** Sessions: signed tokens that say who asks, with which role, and until when. Nothing is stored. */
import { SignJWT, errors, jwtVerify } from 'jose'
import { HoldfastError } from '../domain/errors.ts'
import { isRole } from './permissions.ts'
import type { Role } from './permissions.ts'

export interface SessionUser {
  userId: string
  username: string
  role: Role
}

export interface Session extends SessionUser {
  expiresAt: Date
}

export interface Sessions {
  issue(user: SessionUser): Promise<{ token: string; expiresAt: Date }>
  /** The session behind a bearer token. `UNAUTHENTICATED` when it was not signed by us, was changed, or has expired. */
  verify(token: string): Promise<Session>
}

export interface SessionOptions {
  /** Of {@link loadSessionKey}. */
  key: Uint8Array
  lifetimeMs?: number
  /** For tests: the present in milliseconds. */
  now?: () => number
}

const LIFETIME_MS = 12 * 60 * 60 * 1000
const ALGORITHM = 'HS256'
const ISSUER = 'holdfast'
const AUDIENCE = 'holdfast-api'

export function createSessions({ key, lifetimeMs = LIFETIME_MS, now = Date.now }: SessionOptions): Sessions {
  return {
    async issue(user) {
      const issuedAt = Math.floor(now() / 1000)
      const expiresAt = issuedAt + Math.ceil(lifetimeMs / 1000)
      const token = await new SignJWT({ username: user.username, role: user.role })
        .setProtectedHeader({ alg: ALGORITHM, typ: 'JWT' })
        .setSubject(user.userId)
        .setIssuer(ISSUER)
        .setAudience(AUDIENCE)
        .setIssuedAt(issuedAt)
        .setExpirationTime(expiresAt)
        .sign(key)
      return { token, expiresAt: new Date(expiresAt * 1000) }
    },

    async verify(token) {
      const payload = await readToken(token, key, new Date(now()))
      const { sub, username, role, exp } = payload
      if (sub === undefined || typeof username !== 'string' || !isRole(role) || exp === undefined) {
        throw new HoldfastError('UNAUTHENTICATED', 'The session token is not one of ours: log in again.')
      }
      return { userId: sub, username, role, expiresAt: new Date(exp * 1000) }
    },
  }
}

async function readToken(
  token: string,
  key: Uint8Array,
  currentDate: Date,
): Promise<Record<string, unknown> & { sub?: string; exp?: number }> {
  try {
    const { payload } = await jwtVerify(token, key, {
      // Pinned: a token that names another algorithm, or none, is refused before its signature is looked at.
      algorithms: [ALGORITHM],
      issuer: ISSUER,
      audience: AUDIENCE,
      requiredClaims: ['sub', 'exp'],
      currentDate,
    })
    return payload
  } catch (error) {
    // The cause is dropped: jose's errors carry the claims, and why a forged token failed is nobody's business.
    if (error instanceof errors.JWTExpired) throw new HoldfastError('UNAUTHENTICATED', 'The session has expired: log in again.')
    if (error instanceof errors.JOSEError) {
      throw new HoldfastError('UNAUTHENTICATED', 'The session token is not valid: log in again.')
    }
    throw error
  }
}
