import { inspect } from 'node:util'
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertRepository } from '../test/catalog-rows.ts'
import { createCatalog } from './client.ts'
import { withoutStatementDeadline } from './statement-deadline.ts'

let test: TestCatalog
beforeAll(async () => {
  test = await createTestCatalog()
})
afterAll(() => test.drop())

describe('what comes back is what went in', () => {
  it('for JSON, flags, times and large numbers', async () => {
    const config = { path: '/srv/"quoted"/ü/\\', empty: null, list: [1, { deep: true }], text: "it's; drop table users" }
    const checked = new Date('2026-03-29T01:30:00.123Z')
    const row = { id: 'r1', name: 'ñame 🗄', repository_type: 'local' as const, host_id: 'local', last_check_at: checked }
    const size = 8 * 1024 ** 5
    await test.catalog
      .insertInto('backup_repositories')
      .values({ ...row, config: JSON.stringify(config), enabled: false, total_size_bytes: size })
      .execute()
    const read = await test.catalog.selectFrom('backup_repositories').selectAll().where('id', '=', 'r1').executeTakeFirstOrThrow()
    expect(read).toMatchObject({ ...row, config, enabled: false, total_size_bytes: size, used_size_bytes: 0 })
    expect(Math.abs(read.created_at.getTime() - Date.now())).toBeLessThan(60_000)
  })

  it('through a subquery and under another name', async () => {
    await insertRepository(test.catalog, 'r2')
    const inner = test.catalog
      .selectFrom('backup_repositories')
      .select(['config as settings', 'enabled as active'])
      .where('id', '=', 'r2')
      .limit(1)
    const row = await test.catalog.selectFrom(inner.as('inner')).selectAll().executeTakeFirstOrThrow()
    expect(row).toEqual({ settings: { path: '/srv/r2' }, active: true })
  })

  it('sums sizes to numbers', async () => {
    await insertRepository(test.catalog, 'r3')
    const row = await test.catalog
      .selectFrom('backup_repositories')
      .select((make) => make.fn.sum<number>('available_size_bytes').as('sum'))
      .executeTakeFirstOrThrow()
    expect(row.sum).toBe(0)
  })

  it('refuses what does not fit, instead of cutting it', async () => {
    expect(await failureOf(insertRepository(test.catalog, 'r4', 'x'.repeat(300)))).toMatchObject({
      code: 'INTERNAL',
      retryable: false,
    })
  })

  it('finds nothing, and fails on nothing, for ids in other alphabets', async () => {
    expect(await test.catalog.selectFrom('backup_jobs').select('id').where('id', '=', 'резервная-копия').execute()).toEqual([])
  })

  it('takes an object given for a text as text, never as SQL', async () => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what the types forbid is the point
    const trick = { id: 1 } as unknown as string
    expect(await test.catalog.selectFrom('backup_repositories').select('id').where('id', '=', trick).execute()).toEqual([])
  })
})

describe('time zones', () => {
  it('are UTC in every session, whatever the server thinks', async () => {
    await sql`set global time_zone = '+05:00'`.execute(test.catalog)
    onTestFinished(async () => void (await sql`set global time_zone = '+00:00'`.execute(test.catalog)))
    const other = test.open()
    const { rows } = await sql<{ zone: string; now: Date }>`select @@session.time_zone as zone, now(3) as now`.execute(other)
    expect(rows[0]?.zone).toBe('+00:00')
    expect(Math.abs((rows[0]?.now.getTime() ?? 0) - Date.now())).toBeLessThan(60_000)
  })
})

describe('deadlines', () => {
  it('gives up a statement that is overdue, and its connection with it', async () => {
    const impatient = test.open({ statementMs: 200, connections: 1 })
    const started = performance.now()
    expect(await failureOf(sql`select sleep(20)`.execute(impatient))).toMatchObject({
      code: 'CATALOG_UNAVAILABLE',
      retryable: true,
    })
    expect(performance.now() - started).toBeLessThan(10_000)
    expect((await sql<{ one: number }>`select 1 as one`.execute(impatient)).rows).toEqual([{ one: 1 }])
  })

  it('lets migrations take their time', async () => {
    const impatient = test.open({ statementMs: 100, connections: 1 })
    const { rows } = await withoutStatementDeadline(() => sql<{ slept: number }>`select sleep(0.3) as slept`.execute(impatient))
    expect(rows).toEqual([{ slept: 0 }])
  })

  it('gives up waiting for a connection, and hands the late one to the next', async () => {
    const narrow = test.open({ acquireMs: 200, connections: 1 })
    const slow = sql`select sleep(0.6)`.execute(narrow)
    expect(await failureOf(sql`select 1`.execute(narrow))).toMatchObject({ code: 'CATALOG_UNAVAILABLE' })
    await slow
    await sql`select 1`.execute(narrow)
  })

  it('ends in time although a statement is still running', async () => {
    const catalog = createCatalog(test.databaseUrl, { endMs: 200 })
    const running = failureOf(sql`select sleep(20)`.execute(catalog))
    await sql`select 1`.execute(catalog)
    const started = performance.now()
    await catalog.destroy()
    expect(performance.now() - started).toBeLessThan(10_000)
    expect(await running).toMatchObject({ code: 'CATALOG_UNAVAILABLE' })
  })
})

describe('contention', () => {
  it('calls a deadlock what it is, and worth another try', async () => {
    await insertRepository(test.catalog, 'a')
    await insertRepository(test.catalog, 'b')
    const touch = (first: string, second: string, firstDone: () => void, go: Promise<unknown>): Promise<unknown> =>
      test.catalog.transaction().execute(async (transaction) => {
        const set = (id: string): Promise<unknown> =>
          transaction.updateTable('backup_repositories').set({ used_size_bytes: 1 }).where('id', '=', id).execute()
        await set(first)
        firstDone()
        await go
        await set(second)
      })
    const left = Promise.withResolvers<void>()
    const right = Promise.withResolvers<void>()
    const both = Promise.all([left.promise, right.promise])
    const results = await Promise.allSettled([touch('a', 'b', left.resolve, both), touch('b', 'a', right.resolve, both)])
    const refused = results.filter((result) => result.status === 'rejected')
    expect(refused.map((result) => result.reason as unknown)).toMatchObject([{ code: 'CATALOG_UNAVAILABLE', retryable: true }])
  })
})

describe('the password', () => {
  const canary = 'canary-7f3a-P4ssw0rd'
  const everything = (error: Error): string =>
    `${inspect(error, { depth: null, showHidden: true })} ${JSON.stringify(error)} ${error.stack}`

  it('is in no error, whether the server refuses it, is not there, or the URL is wrong', async () => {
    const socket = encodeURIComponent(inject('mariadbSocket'))
    const urls = [`mysql://nobody:${canary}@localhost/x?socketPath=${socket}`, `mysql://root:${canary}@127.0.0.1:1/x`]
    for (const url of urls) {
      const catalog = createCatalog(url)
      onTestFinished(() => catalog.destroy())
      const error = await failureOf(sql`select 1`.execute(catalog))
      expect(error).toMatchObject({ code: 'CATALOG_UNAVAILABLE', retryable: true })
      expect(everything(error)).not.toContain(canary)
    }
    for (const url of [`mysql//root:${canary}@host/x`, `http://root:${canary}@host/x`, `mysql://root:${canary}%zz@host/x`]) {
      const error = await failureOf(Promise.resolve().then(() => createCatalog(url)))
      expect(error).toMatchObject({ code: 'INVALID_REQUEST' })
      expect(everything(error)).not.toContain(canary)
    }
  })

  it('is not in the error of a statement that held it', async () => {
    const row = { id: 'u', username: 'u', password_hash: canary, role: 'admin' as const }
    await test.catalog.insertInto('users').values(row).execute()
    const error = await failureOf(test.catalog.insertInto('users').values(row).execute())
    expect(error).toMatchObject({ code: 'INTERNAL' })
    expect(everything(error)).not.toContain(canary)
  })
})
