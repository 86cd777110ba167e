/** The catalog's server dies and comes back; nobody restarts Holdfast for it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import { expect, it, onTestFinished } from 'vitest'
import { startMariaDb } from '../dev/mariadb.ts'
import type { RunningMariaDb } from '../dev/mariadb.ts'
import { failureOf } from '../test/failure.ts'
import { createTestDatabase } from '../test/catalog.ts'
import { insertRepository } from '../test/catalog-rows.ts'
import { migrateToLatest } from './migrate.ts'

async function privateServer(): Promise<{ start: () => Promise<RunningMariaDb>; socketPath: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-outage-'))
  const socketPath = join(folder, 'db.sock')
  const started: RunningMariaDb[] = []
  onTestFinished(async () => {
    await Promise.all(started.map((server) => server.stop()))
    await rm(folder, { recursive: true, force: true })
  })
  const start = async (): Promise<RunningMariaDb> => {
    const server = await startMariaDb({ dataFolder: join(folder, 'data'), socketPath })
    started.push(server)
    return server
  }
  return { start, socketPath }
}

it('survives kill -9 of the server: fails fast while it is gone, works on when it is back, has lost nothing', async () => {
  const { start, socketPath } = await privateServer()
  const server = await start()
  const database = await createTestDatabase(socketPath)
  const catalog = database.open()
  await migrateToLatest(catalog)
  await insertRepository(catalog, 'before')
  // Several connections, idle ones and busy ones, must all be noticed to be dead.
  const busy = Promise.all([1, 2, 3].map(() => failureOf(sql`select sleep(60)`.execute(catalog))))
  await Promise.all([1, 2, 3].map(() => sql`select sleep(0.1)`.execute(catalog)))

  process.kill(server.pid, 'SIGKILL')
  await server.exited
  for (const error of await busy) expect(error).toMatchObject({ code: 'CATALOG_UNAVAILABLE', retryable: true })
  for (let attempt = 0; attempt < 15; attempt++) {
    const started = performance.now()
    const error = await failureOf(insertRepository(catalog, 'during'))
    expect(error).toMatchObject({ code: 'CATALOG_UNAVAILABLE', retryable: true })
    expect(performance.now() - started).toBeLessThan(5_000)
  }

  await start()
  await insertRepository(catalog, 'after')
  const rows = await catalog.selectFrom('backup_repositories').select('id').orderBy('id').execute()
  expect(rows.map((row) => row.id)).toEqual(['after', 'before'])
  await database.drop()
})

it('does not wait for ever on a server that is frozen', async () => {
  const { start, socketPath } = await privateServer()
  const server = await start()
  const database = await createTestDatabase(socketPath)
  const catalog = database.open({ statementMs: 500, acquireMs: 500 })
  await sql`select 1`.execute(catalog)
  process.kill(server.pid, 'SIGSTOP')
  onTestFinished(() => void process.kill(server.pid, 'SIGCONT'))
  expect(await failureOf(sql`select 1`.execute(catalog))).toMatchObject({ code: 'CATALOG_UNAVAILABLE' })
  expect(await failureOf(sql`select 1`.execute(catalog))).toMatchObject({ code: 'CATALOG_UNAVAILABLE' })
  process.kill(server.pid, 'SIGCONT')
  await sql`select 1`.execute(catalog)
  await database.drop()
})
