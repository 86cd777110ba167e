/** What holds for every request: who may, what is refused, and what never leaves. */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { hashPassword } from '../security/passwords.ts'
import { roles } from '../security/permissions.ts'
import type { Role } from '../security/permissions.ts'
import { createTestApi } from '../test/api-app.ts'
import type { TestApi } from '../test/api-app.ts'
import { countRows } from '../test/catalog-rows.ts'
import { BODY_MAX_BYTES } from './middleware/body-limit.ts'

const canary = 'canary-password-5f1d'
let api: TestApi

beforeAll(async () => {
  api = await createTestApi()
  await api.catalog
    .insertInto('users')
    .values({ id: 'user-anna', username: 'anna', password_hash: await hashPassword(canary), role: 'operator' })
    .execute()
})
afterAll(() => api?.drop())
beforeEach(() => api.operations.reset())

describe('logging in', () => {
  const login = (username: unknown, password: unknown) =>
    api.call('POST', '/auth/login', { as: null, body: { username, password } })

  test('gives a token that says who one is', async () => {
    const { status, body } = await login('anna', canary)
    expect(status).toBe(200)
    expect(body).toMatchObject({ success: true, user: { id: 'user-anna', username: 'anna', role: 'operator' } })
    const me = await api.call('GET', '/auth/me', { as: null, headers: { Authorization: `Bearer ${String(body['token'])}` } })
    expect(me.body).toEqual({ success: true, user: { id: 'user-anna', username: 'anna', role: 'operator' } })
  })

  test('a wrong password and an unknown user hear the same', async () => {
    const wrong = await login('anna', 'wrong')
    const unknown = await login('nobody', 'wrong')
    expect([wrong.status, wrong.body.error_code]).toEqual([401, 'INVALID_CREDENTIALS'])
    expect({ ...unknown.body, request_id: '' }).toEqual({ ...wrong.body, request_id: '' })
  })

  test('guessing is slowed down: LOGIN_THROTTLED with Retry-After, even for the right password', async () => {
    let answer = await login('guessed', 'wrong')
    for (let attempt = 0; attempt < 10 && answer.status === 401; attempt++) answer = await login('guessed', 'wrong')
    expect([answer.status, answer.body.error_code]).toEqual([429, 'LOGIN_THROTTLED'])
    expect(answer.headers.get('Retry-After')).toBe(String(answer.body['retry_after_seconds']))
    expect((await login('anna', canary)).status, 'others are not held up').toBe(200)
  })

  test.each([
    ['no password', 'anna', undefined],
    ['a list', ['anna'], canary],
    ['an object', { $gt: '' }, canary],
    ['an endless password', 'anna', 'x'.repeat(2000)],
    ['nobody', '', canary],
  ])('%s: INVALID_REQUEST', async (_what, username, password) => {
    const { status, body } = await login(username, password)
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
  })

  test('the password stands in no answer and in no log, whatever went wrong', async () => {
    const answers = [
      await login('anna', canary),
      await login('nobody', canary),
      await login([canary], canary),
      await api.call('POST', '/auth/login', { as: null, body: { username: 'anna', password: canary, [canary.slice(0, 6)]: 1 } }),
      await api.call('POST', '/auth/login', {
        as: null,
        rawBody: `{"password":"${canary}"`,
        headers: { 'Content-Type': 'application/json' },
      }),
      await api.call('GET', `/auth/me`, { as: null, headers: { Authorization: `Bearer ${canary}` } }),
      await api.call('GET', `/backups?vm_name=${canary}`),
    ]
    for (const { body } of answers) expect(JSON.stringify(body)).not.toContain(canary)
    expect(api.logs.join('')).toContain('/auth/login')
    expect(api.logs.join('')).not.toContain(canary)
  })
})

describe('who may', () => {
  const bearer = (token: string) => ({ as: null, headers: { Authorization: token } })

  test.each(['', 'Bearer', 'Bearer ', 'Bearer x', 'Basic YTpi', 'Bearer a.b.c', 'Bearer eyJhbGciOiJub25lIn0.e30.'])(
    '%j opens nothing: UNAUTHENTICATED',
    async (token) => {
      const { status, body, headers } = await api.call('GET', '/backups', bearer(token))
      expect([status, body.error_code, headers.get('WWW-Authenticate')]).toEqual([401, 'UNAUTHENTICATED', 'Bearer'])
    },
  )

  test('every described request but health and login needs a token', async () => {
    const open: string[] = []
    for (const { method, path } of described()) {
      const { status } = await api.call(method, path, { as: null })
      if (status !== 401) open.push(`${method} ${path}`)
    }
    expect(open).toEqual(['GET /health', 'POST /auth/login'])
  })

  /** The least role of each verb that changes something, or shows what users keep in VMs; everything else is for viewers. */
  const needs: Record<string, Role> = {
    'POST /vm-contexts': 'admin',
    'PATCH /vm-contexts/x': 'operator',
    'POST /sources': 'admin',
    'PATCH /sources/x': 'admin',
    'DELETE /sources/x': 'admin',
    'POST /sources/x/test': 'admin',
    'POST /sources/x/discover': 'operator',
    'POST /repositories': 'admin',
    'POST /repositories/test': 'admin',
    'POST /repositories/x/test': 'admin',
    'PATCH /repositories/x': 'admin',
    'DELETE /repositories/x': 'admin',
    'POST /repositories/x/mount': 'admin',
    'POST /repositories/x/unmount': 'admin',
    'POST /repositories/refresh-storage': 'operator',
    'GET /repositories/x/storage': 'operator',
    'POST /alerts/x/acknowledge': 'operator',
    'POST /repositories/x/attest': 'operator',
    'POST /backups': 'operator',
    'POST /backup/start': 'operator',
    'POST /backups/x/cancel': 'operator',
    'POST /backups/x/verify': 'operator',
    'POST /backups/x/restore': 'admin',
    'POST /restores/x/cancel': 'operator',
    'DELETE /backups/x': 'admin',
    'DELETE /backup/x': 'admin',
    'POST /restore/mount': 'operator',
    'POST /restore/x/extend': 'operator',
    'DELETE /restore/x': 'operator',
    'GET /restore/x/files': 'operator',
    'GET /restore/x/estimate': 'operator',
    'GET /restore/x/search': 'operator',
    'GET /restore/x/download': 'operator',
    'GET /restore/x/download-directory': 'operator',
    'GET /audit': 'admin',
  }

  test.each(roles)('%s may what the role allows and nothing else', async (role) => {
    const rank: Role[] = ['viewer', 'operator', 'admin']
    for (const { method, path } of described()) {
      const { status, body } = await api.call(method, path, { as: role })
      const least = needs[`${method} ${path}`] ?? 'viewer'
      const allowed = rank.indexOf(role) >= rank.indexOf(least)
      const refusal = { error_code: 'FORBIDDEN', required_role: least, role }
      const heard = { error_code: body.error_code, required_role: body['required_role'], role: body['role'] }
      expect({ request: `${method} ${path}`, refused: status === 403, ...(status === 403 && heard) }).toEqual({
        request: `${method} ${path}`,
        refused: !allowed,
        ...(!allowed && refusal),
      })
    }
    // It takes nothing that could be wrong.
    expect(api.operations.calls.filter(({ verb }) => verb !== 'refreshStorage')).toEqual([])
  })

  function described(): { method: string; path: string }[] {
    return Object.entries(api.document.paths ?? {}).flatMap(([template, item]) =>
      (['get', 'post', 'put', 'patch', 'delete'] as const)
        .filter((method) => item[method])
        .map((method) => ({
          method: method.toUpperCase(),
          path: template.replace('/api/v1', '').replace(/\{[^}]+\}/g, 'x'),
        })),
    )
  }
})

describe('requests that fit nothing', () => {
  test.each(['/', '/nothing', '/backups/x/nothing', '/backups/', '//backups', '/../health', '/backups/x/verify/y'])(
    'GET %s: ROUTE_NOT_FOUND',
    async (path) => {
      const { status, body } = await api.call('GET', path)
      expect([status, body.error_code]).toEqual([404, 'ROUTE_NOT_FOUND'])
    },
  )

  test.each([
    ['PUT', '/backups', 'GET, POST'],
    ['PATCH', '/backups/x', 'GET, DELETE'],
    ['DELETE', '/repositories', 'GET, POST'],
    ['POST', '/backups/chain', 'GET, DELETE'],
    ['GET', '/backups/x/cancel', 'POST'],
    ['PUT', '/health', 'GET'],
  ])('%s %s: METHOD_NOT_ALLOWED, with those that are', async (method, path, allowed) => {
    const { status, body, headers } = await api.call(method, path)
    expect([status, body.error_code, headers.get('Allow')]).toEqual([405, 'METHOD_NOT_ALLOWED', allowed])
  })

  const json = { 'Content-Type': 'application/json' }
  test.each([
    ['not JSON', '{"vm_name": ', json, 400, 'INVALID_REQUEST'],
    ['nothing', '', json, 400, 'INVALID_REQUEST'],
    ['null', 'null', json, 400, 'INVALID_REQUEST'],
    ['a list', '[]', json, 400, 'INVALID_REQUEST'],
    ['a string', '"x"', json, 400, 'INVALID_REQUEST'],
    ['a form', 'vm_name=web', { 'Content-Type': 'application/x-www-form-urlencoded' }, 415, 'UNSUPPORTED_MEDIA_TYPE'],
    ['text', '{}', { 'Content-Type': 'text/plain' }, 415, 'UNSUPPORTED_MEDIA_TYPE'],
    ['deeply nested', `{"vm_name":${'['.repeat(50_000)}${']'.repeat(50_000)}}`, json, 400, 'INVALID_REQUEST'],
    ['too long', JSON.stringify({ vm_name: 'x'.repeat(BODY_MAX_BYTES) }), json, 413, 'BODY_TOO_LARGE'],
    [
      'prototype keys',
      '{"__proto__":{"admin":true},"constructor":{"prototype":{}},"vm_name":"web"}',
      json,
      400,
      'INVALID_REQUEST',
    ],
  ])('a body that is %s', async (_what, rawBody, headers, status, code) => {
    const before = await countRows(api.catalog, 'idempotency_keys')
    const answer = await api.call('POST', '/backups', { rawBody, headers: { ...headers, 'Idempotency-Key': 'unfit' } })
    expect([answer.status, answer.body.error_code]).toEqual([status, code])
    expect(answer.body.error).not.toMatch(/at .*\.ts|select|zod/i)
    expect(Object.prototype).not.toHaveProperty('admin')
    expect(api.operations.calls).toEqual([])
    expect(await countRows(api.catalog, 'idempotency_keys')).toBe(before)
  })

  test('a body of bytes that are no text', async () => {
    const rawBody = new Uint8Array([0x7b, 0xff, 0xfe, 0x7d])
    const { status, body } = await api.call('POST', '/backups', { rawBody, headers: json })
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
  })
})

describe('every answer', () => {
  test("carries a request id, the caller's own when it is harmless", async () => {
    const own = await api.raw('GET', '/backups', { headers: { 'X-Request-Id': 'my-request.1' } })
    expect(own.headers.get('X-Request-Id')).toBe('my-request.1')
    const forged = await api.raw('GET', '/backups', { headers: { 'X-Request-Id': 'a b {"level":60}' } })
    expect(forged.headers.get('X-Request-Id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(api.logs.at(-1)).toContain(forged.headers.get('X-Request-Id'))
  })

  test('is not to be kept, sniffed or framed', async () => {
    const { headers } = await api.raw('GET', '/backups/x')
    expect(headers.get('Cache-Control')).toBe('no-store')
    expect(headers.get('X-Content-Type-Options')).toBe('nosniff')
    expect(headers.get('Content-Security-Policy')).toContain("default-src 'none'")
  })

  test('to what nobody foresaw says nothing of the inside; the log does', async () => {
    api.operations.answer({
      testRepository: async () => {
        throw new TypeError('select * from users where secret')
      },
    })
    const { status, body } = await api.call('POST', '/repositories/test', { body: { type: 'local', config: { path: '/srv/x' } } })
    expect([status, body.error_code]).toEqual([500, 'INTERNAL'])
    expect(JSON.stringify(body)).not.toMatch(/select|TypeError|\.ts/)
    expect(api.logs.join('')).toContain('select * from users where secret')
  })
})

describe('health', () => {
  test('says which part is down', async () => {
    expect((await api.call('GET', '/health', { as: null })).body).toMatchObject({ status: 'ok', catalog: 'up', temporal: 'up' })
    api.operations.answer({ healthy: async () => false })
    expect((await api.call('GET', '/health', { as: null })).body).toMatchObject({
      status: 'degraded',
      catalog: 'up',
      temporal: 'down',
    })
  })

  test('does not wait for a part that hangs', async () => {
    const never = Promise.withResolvers<boolean>()
    api.operations.answer({ healthy: () => never.promise })
    expect((await api.call('GET', '/health', { as: null })).body).toMatchObject({ temporal: 'down' })
    never.resolve(true)
  })
})

describe('the description', () => {
  test('names the same requests as docs/api.md', async () => {
    const manual = await readFile(new URL('../docs/api.md', import.meta.url), 'utf8')
    const inManual = manual.match(/`(GET|POST|PATCH|DELETE) \/[^`]+`/g)?.map((quoted) => quoted.slice(1, -1))
    const described = Object.entries(api.document.paths ?? {}).flatMap(([path, item]) =>
      (['get', 'post', 'patch', 'delete'] as const)
        .filter((method) => item[method])
        .map((method) => `${method.toUpperCase()} ${path.replace('/api/v1', '')}`),
    )
    expect([...new Set(inManual)].sort()).toEqual(described.sort())
  })

  test('is OpenAPI 3.1 and open to all', async () => {
    const response = await api.raw('GET', '/openapi.json', { as: null })
    expect(response.status).toBe(200)
    expect(api.document).toMatchObject({ openapi: '3.1.0', security: [{ bearer: [] }] })
    expect(api.document.paths?.['/api/v1/backups']?.post?.requestBody).toBeDefined()
  })

  test('as a page needs nothing from another host and runs no script', async () => {
    const response = await api.raw('GET', '/docs', { as: null })
    const html = await response.text()
    expect(response.headers.get('Content-Type')).toContain('text/html')
    expect(response.headers.get('Content-Security-Policy')).toBe(
      "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    )
    expect(html).toContain('/api/v1/backups/{id}/restore')
    expect(html).not.toMatch(/<script|https?:\/\/(?!\+|localhost)/)
  })
})
