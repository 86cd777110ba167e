/** The API as a process: it starts without its servers, finds them when they come, and stops without dropping what it has begun. */
import { once } from 'node:events'
import { symlink } from 'node:fs/promises'
import { Agent, request as httpRequest } from 'node:http'
import { connect, createServer } from 'node:net'
import type { Server } from 'node:net'
import { join, resolve } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { freePort } from '../dev/ports.ts'
import { ensureFirstAdmin } from '../security/first-admin.ts'
import { startTool } from '../tools/run-tool.ts'
import { createTestCatalog } from '../test/catalog.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'

interface ApiProcess {
  url: string
  port: number
  output: () => string
  stop(): Promise<void>
  exited: Promise<{ exitCode: number | null }>
}

async function startApi(env: Record<string, string> = {}, port?: number): Promise<ApiProcess> {
  const home = await temporaryFolder()
  const apiPort = port ?? (await freePort())
  let output = ''
  const ready = Promise.withResolvers<void>()
  const child = startTool(process.execPath, [resolve(import.meta.dirname, 'main.ts')], {
    env: { HOLDFAST_HOME: home, HOLDFAST_API_PORT: String(apiPort), ...env },
    onOutput: (text) => {
      output += text
      if (output.includes('"msg":"ready"')) ready.resolve()
    },
  })
  onTestFinished(() => child.stop(5_000))
  await Promise.race([ready.promise, child.exited])
  return {
    url: `http://127.0.0.1:${apiPort}/api/v1`,
    port: apiPort,
    output: () => output,
    stop: () => child.stop(10_000),
    exited: child.exited,
  }
}

async function health(api: ApiProcess): Promise<unknown> {
  return (await fetch(`${api.url}/health`)).json()
}

/** Listens on `port` and passes everything on to the Temporal server of the test run. */
async function forwardToTemporal(port: number): Promise<Server> {
  const [host = '', realPort = ''] = inject('temporalAddress').split(':')
  const server = createServer((incoming) => {
    const outgoing = connect(Number(realPort), host)
    incoming.pipe(outgoing).pipe(incoming)
    for (const socket of [incoming, outgoing]) socket.on('error', () => [incoming, outgoing].forEach((one) => one.destroy()))
    onTestFinished(() => void incoming.destroy())
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return server
}

test('starts while both servers are away, answers 503, and recovers by itself when they come', async () => {
  const database = await createTestCatalog()
  const { databaseUrl, catalog } = database
  onTestFinished(() => database.drop())
  const admin = await ensureFirstAdmin(catalog)
  const lateSocket = join(await temporaryFolder(), 'late.sock')
  const temporalPort = await freePort()
  const lateUrl = new URL(databaseUrl)
  lateUrl.searchParams.set('socketPath', lateSocket)
  const api = await startApi({ DATABASE_URL: lateUrl.href, TEMPORAL_ADDRESS: `127.0.0.1:${temporalPort}` })

  expect(await health(api)).toMatchObject({ success: true, status: 'degraded', catalog: 'down', temporal: 'down' })
  const login = () =>
    fetch(`${api.url}/auth/login`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(admin),
    })
  const refused = await login()
  expect([refused.status, await refused.json()]).toMatchObject([503, { error_code: 'CATALOG_UNAVAILABLE' }])
  expect(refused.headers.get('Retry-After')).toBe('5')

  await symlink(inject('mariadbSocket'), lateSocket)
  await expect.poll(() => health(api), { timeout: 60_000 }).toMatchObject({ catalog: 'up', temporal: 'down' })
  const { token } = JSON.parse(await (await login()).text())
  const place = { type: 'local', config: { path: '/srv/x' } }
  const testPlace = await fetch(`${api.url}/repositories/test`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${token}` },
    body: JSON.stringify(place),
  })
  expect([testPlace.status, await testPlace.json()]).toMatchObject([503, { error_code: 'ORCHESTRATOR_UNAVAILABLE' }])

  await forwardToTemporal(temporalPort)
  await expect.poll(() => health(api), { timeout: 60_000 }).toMatchObject({ status: 'ok', catalog: 'up', temporal: 'up' })
  expect(api.output()).not.toContain(admin!.password)
  expect(api.output()).not.toContain(token)
})

test('told to stop, it ends the request under way and exits 0', async () => {
  const api = await startApi()
  const agent = new Agent({ keepAlive: true })
  onTestFinished(() => agent.destroy())
  const body = '{"username":1}'
  const headers = { 'Content-Type': 'application/json', 'Content-Length': body.length, Expect: '100-continue' }
  const running = httpRequest(`${api.url}/auth/login`, { method: 'POST', headers, agent })
  const answered = once(running, 'response')
  running.flushHeaders()
  // The server has the request and waits for its body.
  await once(running, 'continue')
  const stopped = api.stop()
  await expect.poll(api.output).toContain('"msg":"stopping"')
  running.end(body)
  const [response] = await answered
  expect(response.statusCode).toBe(400)
  response.resume()
  await stopped
  expect(await api.exited).toMatchObject({ exitCode: 0 })
})

test('told to stop, it does not wait for ever for a request that stands still', async () => {
  const api = await startApi()
  const headers = { 'Content-Type': 'application/json', 'Content-Length': 10, Expect: '100-continue' }
  const running = httpRequest(`${api.url}/auth/login`, { method: 'POST', headers })
  const cut = once(running, 'error')
  running.flushHeaders()
  await once(running, 'continue')
  await api.stop()
  await cut
  expect(await api.exited).toMatchObject({ exitCode: 0 })
  expect(api.output()).toContain('requests still running are cut')
})

test('a port in use ends it with the reason', async () => {
  const taken = createServer().listen(0, '127.0.0.1')
  onTestFinished(() => void taken.close())
  await once(taken, 'listening')
  const address = taken.address()
  const api = await startApi({}, typeof address === 'object' && address ? address.port : 0)
  expect(await api.exited).toMatchObject({ exitCode: 1 })
  expect(api.output()).toContain('is the port in use?')
})
