/** The whole stack with real processes: what is killed comes back, what is stopped is gone. */
import { readFile, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createConnection } from 'mysql2/promise'
import { userInfo } from 'node:os'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import { createTestDatabase } from '../test/catalog.ts'
import { shareCaches } from '../test/shared-caches.ts'
import { createTemporaryFolder, temporaryFolder } from '../test/temporary-folder.ts'
import { startTool } from '../tools/run-tool.ts'
import type { RunningTool } from '../tools/run-tool.ts'
import { accepts, freePort } from './ports.ts'
import { startStack } from './stack.ts'
import type { ServiceName, Stack, StackEvent, StackOptions } from './stack.ts'

const STOP_LIMIT_MS = 30_000
const startScript = join(import.meta.dirname, 'start.ts')

async function ports(): Promise<Pick<StackOptions, 'apiPort' | 'temporalPort' | 'uiPort'>> {
  return { apiPort: await freePort(), temporalPort: await freePort(), uiPort: await freePort() }
}

async function health(apiUrl: string): Promise<unknown> {
  const answer = await fetch(`${apiUrl}/api/v1/health`).catch(() => undefined)
  return answer?.ok ? answer.json() : undefined
}

async function untilHealthy(apiUrl: string): Promise<void> {
  await expect.poll(() => health(apiUrl), { timeout: 60_000 }).toMatchObject({ status: 'ok', catalog: 'up', temporal: 'up' })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Of one process, and of theirs. */
async function descendants(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  const children = text
    .split(' ')
    .filter((name) => name !== '')
    .map(Number)
  return [...children, ...(await Promise.all(children.map(descendants))).flat()]
}

describe('a running stack', () => {
  let stack: Stack
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
  let options: StackOptions
  const events: StackEvent[] = []

  beforeAll(async () => {
    folder = await createTemporaryFolder()
    options = { home: join(folder.path, 'home'), ...(await ports()), onEvent: (event) => events.push(event) }
    stack = await startStack(options)
  })
  afterAll(async () => {
    await stack.stop()
    await folder.remove()
  })

  test('is complete and healthy, started in order', async () => {
    await untilHealthy(stack.apiUrl)
    const order: ServiceName[] = ['mariadb', 'temporal', 'control', 'mover', 'api']
    expect(stack.processes().map(({ name }) => name)).toEqual(order)
    expect(events.flatMap((event) => (event.kind === 'ready' ? [event.service] : []))).toEqual(order)
  })

  test('lets its first administrator in, whose password stands in no log', async () => {
    const { username, password } = stack.firstAdmin ?? { username: '', password: '' }
    expect(events).toContainEqual({ kind: 'first-admin', username, password })
    const answer = await fetch(`${stack.apiUrl}/api/v1/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ username, password }),
    })
    expect(await answer.json()).toMatchObject({ success: true, token: expect.any(String) })
    for (const name of await readdir(stack.folders.logs)) {
      expect(await readFile(join(stack.folders.logs, name), 'utf8')).not.toContain(password)
    }
  })

  test('is the only one on its state; a second start names it', async () => {
    await expect(startStack({ ...options, ...(await ports()) })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: expect.stringContaining(`(pid ${process.pid}, ${stack.apiUrl})`),
    })
    await untilHealthy(stack.apiUrl)
  })

  test.each<ServiceName>(['mariadb', 'temporal', 'control', 'mover', 'api'])('%s is killed and comes back', async (name) => {
    const killed = stack.processes().find((process) => process.name === name)?.pid ?? 0
    const others = stack.processes().filter((process) => process.name !== name)
    const back = stack.restarted(name, killed)
    process.kill(killed, 'SIGKILL')
    const pid = await back
    expect(pid).not.toBe(killed)
    await untilHealthy(stack.apiUrl)
    // The others bridge the gap: none of them gave up.
    expect(stack.processes()).toEqual(expect.arrayContaining(others))
  })

  test('stops within 30 s in reverse order and leaves no process, socket or port', async () => {
    const pids = stack.processes().map(({ pid }) => pid)
    const started = performance.now()
    await stack.stop()
    expect(performance.now() - started).toBeLessThan(STOP_LIMIT_MS)
    expect(pids.filter(isAlive)).toEqual([])
    expect(stack.processes()).toEqual([])
    expect(events.flatMap((event) => (event.kind === 'stopped' ? [event.service] : []))).toEqual([
      'api',
      'mover',
      'control',
      'temporal',
      'mariadb',
    ])
    await expect(stat(stack.folders.run)).rejects.toThrow('ENOENT')
    expect(await Promise.all([options.apiPort, options.temporalPort].map(accepts))).toEqual([false, false])
  })
})

test('a port that is taken stops the start before anything runs', async () => {
  const home = await temporaryFolder()
  const [host, port] = inject('temporalAddress').split(':')
  const starting = startStack({ home, ...(await ports()), temporalPort: Number(port) })
  await expect(starting).rejects.toMatchObject({
    code: 'INVALID_REQUEST',
    message: expect.stringMatching(/^Port \d+ for Temporal is in use by temporal \(pid \d+\)\. .*HOLDFAST_TEMPORAL_PORT/),
  })
  expect(host).toBe('127.0.0.1')
  expect(await readdir(home)).toEqual([])
})

test('giving up while it starts leaves nothing running', async () => {
  const giveUp = new AbortController()
  const pids: number[] = []
  const starting = startStack({
    home: await temporaryFolder(),
    ...(await ports()),
    signal: giveUp.signal,
    onEvent(event) {
      if (event.kind === 'ready') pids.push(event.pid)
      if (event.kind === 'starting' && event.service === 'control') giveUp.abort(new Error('changed my mind'))
    },
  })
  await expect(starting).rejects.toThrow('changed my mind')
  expect(pids).toHaveLength(2)
  expect(pids.filter(isAlive)).toEqual([])
})

describe('other servers', () => {
  test('are used instead of our own, outlive us, and their password is seen nowhere', async () => {
    const secret = 'canary-3f9c1a'
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const name = new URL(database.databaseUrl).pathname.slice(1)
    await administer(`create user '${name}'@localhost identified by '${secret}'`, `grant all on ${name}.* to '${name}'@localhost`)
    onTestFinished(() => administer(`drop user '${name}'@localhost`))
    const databaseUrl = `mysql://${name}:${secret}@localhost/${name}?socketPath=${encodeURIComponent(inject('mariadbSocket'))}`
    const home = await temporaryFolder()
    await shareCaches(home)
    const output: string[] = []
    const stack = await startStack({
      home,
      ...(await ports()),
      databaseUrl,
      temporalAddress: inject('temporalAddress'),
      onOutput: (_, text) => output.push(text),
    })
    onTestFinished(() => stack.stop())
    await untilHealthy(stack.apiUrl)
    expect(stack.processes().map((process) => process.name)).toEqual(['control', 'mover', 'api'])
    expect(stack.uiUrl).toBeNull()
    for (const { pid } of stack.processes()) expect(await readFile(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(secret)
    await stack.stop()
    expect(output.join('')).not.toContain(secret)
    await administer('select 1')
    expect(await accepts(Number(inject('temporalAddress').split(':')[1]))).toBe(true)
  })

  test('that do not answer are named, without the password', async () => {
    const databaseUrl = `mysql://someone:canary-77@127.0.0.1:${await freePort()}/holdfast`
    const starting = startStack({
      home: await temporaryFolder(),
      ...(await ports()),
      databaseUrl,
      temporalAddress: inject('temporalAddress'),
    })
    const error: unknown = await starting.catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'CATALOG_UNAVAILABLE' })
    expect(String(error)).not.toContain('canary-77')
  })

  async function administer(...statements: string[]): Promise<void> {
    const connection = await createConnection({ socketPath: inject('mariadbSocket'), user: userInfo().username })
    for (const statement of statements) await connection.query(statement)
    await connection.end()
  }
})

describe('npm start', () => {
  async function start(
    home: string,
    chosen: Awaited<ReturnType<typeof ports>>,
  ): Promise<{ program: RunningTool; output: () => string }> {
    let output = ''
    const ready = Promise.withResolvers<void>()
    const program = startTool(process.execPath, [startScript], {
      env: {
        HOLDFAST_HOME: home,
        HOLDFAST_API_PORT: String(chosen.apiPort),
        HOLDFAST_TEMPORAL_PORT: String(chosen.temporalPort),
        HOLDFAST_TEMPORAL_UI_PORT: String(chosen.uiPort),
      },
      onOutput(text) {
        output += text
        if (output.includes('Holdfast is ready.')) ready.resolve()
      },
    })
    onTestFinished(() => program.stop(STOP_LIMIT_MS))
    const ended = program.exited.then((exit) => {
      throw new Error(`ended with ${JSON.stringify(exit)}: ${output}`)
    })
    ended.catch(() => undefined)
    await Promise.race([ready.promise, ended])
    return { program, output: () => output }
  }

  test('killed, it takes every process along; started again, it goes on; Ctrl-C ends it in order', async () => {
    const home = join(await temporaryFolder(), 'home')
    await shareCaches(home)
    const chosen = await ports()
    const first = await start(home, chosen)
    const children = await descendants(first.program.pid)
    expect(children.length).toBeGreaterThanOrEqual(5)
    expect(first.output()).toContain(join(home, 'keys/first-login'))
    process.kill(first.program.pid, 'SIGKILL')
    await first.program.exited
    await expect.poll(() => children.filter(isAlive), { timeout: 60_000 }).toEqual([])

    const second = await start(home, chosen)
    expect(second.output()).not.toContain('first-login')
    expect(second.output()).toContain(`http://127.0.0.1:${chosen.apiPort}/api/v1`)
    const later = await descendants(second.program.pid)
    const started = performance.now()
    // As from a terminal and again from npm: one Ctrl-C.
    process.kill(second.program.pid, 'SIGINT')
    process.kill(second.program.pid, 'SIGINT')
    expect(await second.program.exited).toEqual({ exitCode: 0, signal: null })
    expect(performance.now() - started).toBeLessThan(STOP_LIMIT_MS)
    expect(second.output()).toContain('Stopped.')
    expect(later.filter(isAlive)).toEqual([])
  })
})
