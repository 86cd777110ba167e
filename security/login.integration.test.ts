import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { countRows } from '../test/catalog-rows.ts'
import { failureOf } from '../test/failure.ts'
import { ensureFirstAdmin } from './first-admin.ts'
import { createLoginThrottle } from './login-throttle.ts'
import { logIn } from './login.ts'
import type { LoginDependencies } from './login.ts'
import { createSessions } from './sessions.ts'

let test: TestCatalog
let dependencies: LoginDependencies
beforeEach(async () => {
  test = await createTestCatalog()
  dependencies = {
    catalog: test.catalog,
    sessions: createSessions({ key: new Uint8Array(32).fill(1) }),
    throttle: createLoginThrottle(),
  }
})
afterEach(() => test.drop())

const address = '127.0.0.1'

describe('the first admin', () => {
  it('is made once, with a password that nobody else has and that is not stored', async () => {
    const first = await ensureFirstAdmin(test.catalog)
    expect(first).toMatchObject({ username: 'admin', password: expect.stringMatching(/^[a-zA-Z2-9]{20}$/) })
    const rows = await test.catalog.selectFrom('users').selectAll().execute()
    expect(rows).toMatchObject([{ username: 'admin', role: 'admin', password_hash: expect.stringMatching(/^\$argon2id\$/) }])
    expect(JSON.stringify(rows)).not.toContain(first?.password)
    expect(await ensureFirstAdmin(test.catalog)).toBeNull()
  })

  it('is made by one of several processes that start at once', async () => {
    const made = await Promise.all(Array.from({ length: 4 }, () => ensureFirstAdmin(test.open())))
    expect(made.filter((admin) => admin !== null)).toHaveLength(1)
    expect(await countRows(test.catalog, 'users')).toBe(1)
  })

  it('is not made when somebody else can log in', async () => {
    await test.catalog.insertInto('users').values({ id: 'u', username: 'ada', password_hash: 'x', role: 'admin' }).execute()
    expect(await ensureFirstAdmin(test.catalog)).toBeNull()
  })
})

describe('logging in', () => {
  it('gives a session of the user', async () => {
    const admin = await ensureFirstAdmin(test.catalog)
    const login = await logIn(dependencies, { username: 'admin', password: admin?.password ?? '', address })
    expect(login.user).toMatchObject({ username: 'admin', role: 'admin' })
    expect(await dependencies.sessions.verify(login.token)).toMatchObject(login.user)
  })

  it('refuses a wrong password and an unknown user in the same words', async () => {
    const admin = await ensureFirstAdmin(test.catalog)
    const wrong = await failureOf(logIn(dependencies, { username: 'admin', password: `${admin?.password}x`, address }))
    const unknown = await failureOf(logIn(dependencies, { username: 'nobody', password: 'x', address }))
    expect(wrong).toMatchObject({ code: 'INVALID_CREDENTIALS', details: {} })
    expect(unknown).toMatchObject({ code: 'INVALID_CREDENTIALS', details: {}, message: wrong.message })
    const spelling = await failureOf(logIn(dependencies, { username: 'Admin ', password: admin?.password ?? '', address }))
    expect(spelling.code).toBe('INVALID_CREDENTIALS')
  })

  it('is throttled even when many guesses come at the same time, for that address only', async () => {
    const admin = await ensureFirstAdmin(test.catalog)
    const guesses = await Promise.all(
      Array.from({ length: 20 }, (_, guess) =>
        failureOf(logIn(dependencies, { username: 'admin', password: `guess ${guess}`, address })),
      ),
    )
    const codes = guesses.map((error) => error.code)
    expect(codes.filter((code) => code === 'INVALID_CREDENTIALS')).toHaveLength(5)
    expect(codes.filter((code) => code === 'LOGIN_THROTTLED')).toHaveLength(15)
    await logIn(dependencies, { username: 'admin', password: admin?.password ?? '', address: '127.0.0.2' })
  })
})
