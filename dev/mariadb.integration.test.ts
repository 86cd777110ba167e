import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { createConnection } from 'mysql2/promise'
import { expect, onTestFinished, test } from 'vitest'
import { listeningSockets } from '../test/listening-sockets.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { startMariaDb } from './mariadb.ts'
import type { MariaDbOptions, RunningMariaDb } from './mariadb.ts'

async function place(): Promise<MariaDbOptions> {
  const folder = await temporaryFolder()
  return { dataFolder: join(folder, 'state/mariadb'), socketPath: join(folder, 'm.sock') }
}

async function start(options: MariaDbOptions): Promise<RunningMariaDb> {
  const server = await startMariaDb(options)
  onTestFinished(() => server.stop())
  return server
}

async function query(socketPath: string, sql: string): Promise<unknown> {
  const connection = await createConnection({ socketPath, user: userInfo().username })
  try {
    const [rows] = await connection.query(sql)
    return rows
  } finally {
    await connection.end()
  }
}

test('what was committed survives kill -9, and the next start recovers by itself', async () => {
  const options = await place()
  const first = await start(options)
  await query(options.socketPath, 'create database holdfast')
  await query(options.socketPath, 'create table holdfast.backups (id int primary key) engine = innodb')
  await query(options.socketPath, 'insert into holdfast.backups values (1), (2)')
  process.kill(first.pid, 'SIGKILL')
  expect(await first.exited).toEqual({ exitCode: null, signal: 'SIGKILL' })

  await start(options)
  expect(await query(options.socketPath, 'select id from holdfast.backups order by id')).toEqual([{ id: 1 }, { id: 2 }])
})

test('a second server may be started while the first one is still dying', async () => {
  const options = await place()
  const first = await start(options)
  process.kill(first.pid, 'SIGKILL')
  await start(options)
  expect(await query(options.socketPath, 'select 1 as answer')).toEqual([{ answer: 1 }])
})

test('it listens on its socket only, writes through what was committed, and stopping removes the socket', async () => {
  const options = await place()
  const server = await start(options)
  const flushing = await query(options.socketPath, "show variables where variable_name = 'innodb_flush_log_at_trx_commit'")
  expect(flushing).toEqual([{ Variable_name: 'innodb_flush_log_at_trx_commit', Value: '1' }])
  expect(await listeningSockets(server.pid)).toEqual([])
  expect((await stat(options.dataFolder)).mode & 0o077).toBe(0)
  await server.stop()
  await expect(stat(options.socketPath)).rejects.toThrow('ENOENT')
  await expect(stat(`${options.socketPath}.pid`)).rejects.toThrow('ENOENT')
})

test('the URL leads to it', async () => {
  const options = await place()
  const server = await start(options)
  const url = new URL(server.url('holdfast'))
  expect(url.pathname).toBe('/holdfast')
  expect(url.searchParams.get('socketPath')).toBe(options.socketPath)
  expect(url.password).toBe('')
})

test('an interrupted creation is begun again', async () => {
  const options = await place()
  await mkdir(`${options.dataFolder}.unfinished/mysql`, { recursive: true })
  await start(options)
  expect(await query(options.socketPath, 'select count(*) > 0 as found from mysql.global_priv')).toEqual([{ found: 1 }])
})

test('a damaged data folder is reported with the server’s own words', async () => {
  const options = await place()
  const server = await start(options)
  await server.stop()
  await rm(join(options.dataFolder, 'ib_logfile0'))
  await writeFile(join(options.dataFolder, 'ibdata1'), 'not a tablespace')
  await expect(startMariaDb(options)).rejects.toMatchObject({ code: 'TOOL_FAILED', message: expect.stringContaining('InnoDB') })
})

test('giving up leaves no server behind', async () => {
  const options = await place()
  const giveUp = new AbortController()
  const starting = startMariaDb({
    ...options,
    signal: giveUp.signal,
    onProgress: (text) => text.startsWith('starting') && giveUp.abort(new Error('stop')),
  })
  await expect(starting).rejects.toThrow('stop')
  expect(await readdir(join(options.dataFolder, '..'))).not.toContain('mariadb.unfinished')
  await expect(stat(options.socketPath)).rejects.toThrow('ENOENT')
})
