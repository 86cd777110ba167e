import { SignJWT, UnsecuredJWT } from 'jose'
import { describe, expect, it } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { createSessions } from './sessions.ts'

const key = new Uint8Array(32).fill(7)
const user = { userId: 'user-1', username: 'ada', role: 'operator' as const }
const hour = 3_600_000

/** What checking a token fails with: always these two, and no cause, which could say why. */
const refusal = { code: 'UNAUTHENTICATED', cause: undefined }
const check = async (token: string, sessions = createSessions({ key })): Promise<{ code: string; cause: unknown }> => {
  const { code, cause } = await failureOf(sessions.verify(token))
  return { code, cause }
}

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const decode = (part: string | undefined): Record<string, unknown> => JSON.parse(Buffer.from(part ?? '', 'base64url').toString())

function forge(): SignJWT {
  return new SignJWT({ username: 'ada', role: 'admin' })
    .setSubject('user-1')
    .setIssuer('holdfast')
    .setAudience('holdfast-api')
    .setExpirationTime('1h')
}

describe('a session', () => {
  it('says who, with which role, until when', async () => {
    const sessions = createSessions({ key })
    const { token, expiresAt } = await sessions.issue(user)
    expect(await sessions.verify(token)).toEqual({ ...user, expiresAt })
    expect(Math.abs(expiresAt.getTime() - Date.now() - 12 * hour)).toBeLessThan(10_000)
  })

  it('ends when its time is over', async () => {
    let now = Date.parse('2026-11-21T08:00:00Z')
    const sessions = createSessions({ key, lifetimeMs: hour, now: () => now })
    const { token } = await sessions.issue(user)
    now += hour - 1_000
    await sessions.verify(token)
    now += 1_000
    const error = await failureOf(sessions.verify(token))
    expect(error).toMatchObject({ code: 'UNAUTHENTICATED', message: expect.stringContaining('expired') })
  })
})

describe('a token is refused', () => {
  it('when another key signed it', async () => {
    const { token } = await createSessions({ key: new Uint8Array(32).fill(8) }).issue(user)
    expect(await check(token)).toEqual(refusal)
  })

  it('when its payload was changed', async () => {
    const { token } = await createSessions({ key }).issue(user)
    const [header, payload, signature] = token.split('.')
    expect(await check([header, encode({ ...decode(payload), role: 'admin' }), signature].join('.'))).toEqual(refusal)
  })

  it('when it has no signature (alg none), in every spelling', async () => {
    const claims = {
      sub: 'user-1',
      username: 'ada',
      role: 'admin',
      iss: 'holdfast',
      aud: 'holdfast-api',
      exp: Math.floor(Date.now() / 1000) + 600,
    }
    expect(await check(new UnsecuredJWT(claims).encode())).toEqual(refusal)
    for (const alg of ['none', 'None', 'NONE', '']) expect(await check(`${encode({ alg })}.${encode(claims)}.`)).toEqual(refusal)
    const { token } = await createSessions({ key }).issue(user)
    expect(await check(token.split('.').slice(0, 2).join('.'))).toEqual(refusal)
    expect(await check(`${token.split('.').slice(0, 2).join('.')}.`)).toEqual(refusal)
  })

  it('when it names another algorithm, even with the right key', async () => {
    expect(await check(await forge().setProtectedHeader({ alg: 'HS512' }).sign(new Uint8Array(64).fill(7)))).toEqual(refusal)
    const long = new Uint8Array(64).fill(7)
    expect(await check(await forge().setProtectedHeader({ alg: 'HS384' }).sign(long), createSessions({ key: long }))).toEqual(
      refusal,
    )
  })

  it('when it was made for something else, has no end, or no such role', async () => {
    const signed = (token: SignJWT): Promise<string> => token.setProtectedHeader({ alg: 'HS256' }).sign(key)
    expect(await check(await signed(forge().setIssuer('elsewhere')))).toEqual(refusal)
    expect(await check(await signed(forge().setAudience('elsewhere')))).toEqual(refusal)
    expect(
      await check(
        await signed(
          new SignJWT({ username: 'ada', role: 'admin' }).setSubject('user-1').setIssuer('holdfast').setAudience('holdfast-api'),
        ),
      ),
    ).toEqual(refusal)
    expect(
      await check(
        await signed(
          new SignJWT({ username: 'ada', role: 'root' })
            .setSubject('u')
            .setIssuer('holdfast')
            .setAudience('holdfast-api')
            .setExpirationTime('1h'),
        ),
      ),
    ).toEqual(refusal)
  })

  it.each(['', '.', '..', 'x', 'a.b.c', 'Bearer x', '\u0000', 'é.é.é', '.'.repeat(10_000)])(
    'when it is no token: %j',
    async (token) => {
      expect(await check(token)).toEqual(refusal)
    },
  )
})
