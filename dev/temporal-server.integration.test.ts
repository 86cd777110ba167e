import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Client, Connection } from '@temporalio/client'
import { expect, onTestFinished, test } from 'vitest'
import { NAMESPACE_RETENTION_MS } from '../temporal/search-attributes.ts'
import { listeningSockets } from '../test/listening-sockets.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { accepts, freePort } from './ports.ts'
import { startTemporalServer } from './temporal-server.ts'
import type { RunningTemporalServer, TemporalServerOptions } from './temporal-server.ts'

async function start(options: TemporalServerOptions): Promise<RunningTemporalServer> {
  const server = await startTemporalServer(options)
  onTestFinished(() => server.stop())
  return server
}

async function connect(address: string): Promise<Client> {
  const connection = await Connection.connect({ address })
  onTestFinished(() => connection.close())
  return new Client({ connection, namespace: 'holdfast' })
}

test('a workflow that was started survives kill -9 of the server', async () => {
  const options = { folder: join(await temporaryFolder(), 'temporal'), port: await freePort(), uiPort: null }
  const first = await start(options)
  const workflowId = randomUUID()
  const before = await connect(first.address)
  await before.workflow.start('nobodyRunsThis', { workflowId, taskQueue: 'nobody' })
  process.kill(first.pid, 'SIGKILL')
  await first.exited

  const second = await start(options)
  const after = await connect(second.address)
  expect((await after.workflow.getHandle(workflowId).describe()).status.name).toBe('RUNNING')
})

test('closed workflows stay readable for 30 days', async () => {
  const server = await start({ folder: null, port: await freePort(), uiPort: null })
  const client = await connect(server.address)
  const { config } = await client.workflowService.describeNamespace({ namespace: 'holdfast' })
  expect(Number(config?.workflowExecutionRetentionTtl?.seconds) * 1_000).toBe(NAMESPACE_RETENTION_MS)
})

test('the Web UI answers, and nothing listens beyond loopback', async () => {
  const uiPort = await freePort()
  const server = await start({ folder: null, port: await freePort(), uiPort })
  await expect.poll(() => accepts(uiPort), { timeout: 60_000 }).toBe(true)
  expect((await fetch(`http://127.0.0.1:${uiPort}/`)).status).toBe(200)
  const sockets = await listeningSockets(server.pid)
  expect(sockets.map((socket) => socket.port)).toContain(uiPort)
  expect(sockets.filter((socket) => !socket.loopback)).toEqual([])
})

test('a port that is taken is reported with the server’s own words, and leaves nothing running', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  onTestFinished(() => void other.close())
  const address = other.address()
  const port = typeof address === 'object' && address ? address.port : 0
  await expect(startTemporalServer({ folder: null, port, uiPort: null })).rejects.toMatchObject({
    code: 'TOOL_FAILED',
    message: expect.stringContaining(`${port}`),
  })
})

test('giving up while it starts ends it', async () => {
  const port = await freePort()
  const giveUp = new AbortController()
  const starting = startTemporalServer({
    folder: null,
    port,
    uiPort: null,
    signal: giveUp.signal,
    onOutput: () => giveUp.abort(new Error('stop')),
  })
  await expect(starting).rejects.toThrow('stop')
  expect(await accepts(port)).toBe(false)
})
