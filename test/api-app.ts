/** The API on a fresh catalog, called without a socket. Every JSON answer is checked against the API's own description. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createAdaptorServer } from '@hono/node-server'
import { pino } from 'pino'
import { createApp } from '../api/app.ts'
import { createMoverFiles } from '../api/mover-files.ts'
import type { Catalog } from '../db/client.ts'
import { createLoginThrottle } from '../security/login-throttle.ts'
import { roles } from '../security/permissions.ts'
import type { Role } from '../security/permissions.ts'
import { createSessions } from '../security/sessions.ts'
import { loadFilesKey } from '../security/signed-requests.ts'
import type { Operations } from '../temporal/operations.ts'
import { homeFolders } from '../runtime/environment.ts'
import type { Logger } from '../runtime/logger.ts'
import { createTestCatalog } from './catalog.ts'
import { createAnswerCheck } from './openapi-check.ts'
import { createRecordingOperations } from './recording-operations.ts'
import type { RecordingOperations } from './recording-operations.ts'
import { createTemporaryFolder } from './temporary-folder.ts'
import type { OpenApiDocument } from '../api/openapi.ts'

export interface Answer<Body> {
  status: number
  headers: Headers
  body: Body & { error_code?: string; error?: string }
}

export interface CallOptions {
  /** Sent as JSON. */
  body?: unknown
  /** Sent as it stands. */
  rawBody?: string | Uint8Array<ArrayBuffer>
  headers?: Record<string, string>
  /** Whose token is sent; nobody's when null. Admin's when absent. */
  as?: Role | null
}

export interface TestApi {
  catalog: Catalog
  operations: RecordingOperations
  logger: Logger
  /** Every line logged so far, as text. */
  logs: string[]
  document: OpenApiDocument
  keysFolder: string
  /** What the API believes to be the present; tests move it. With real operations it has the real time. */
  clock: { now: Date }
  /** `path` is below /api/v1. */
  call<Body = Record<string, unknown>>(method: string, path: string, options?: CallOptions): Promise<Answer<Body>>
  /** Without the check of the answer: for what is not JSON. */
  raw(method: string, path: string, options?: CallOptions): Promise<Response>
  /** Serves it on a socket too, until {@link drop}: for HEAD, streams, and clients that go away. Returns its URL, with /api/v1. */
  listen(): Promise<string>
  /** The value of the header for a request to that. */
  authorizationOf(role: Role): string
  drop(): Promise<void>
}

export interface TestApiOptions {
  /** What the API asks in place of its recording operations; with the catalog that they write, and the home of the processes behind them. */
  real?: { operations: Operations; catalog: Catalog; home: string }
}

export async function createTestApi({ real }: TestApiOptions = {}): Promise<TestApi> {
  const database = real ? undefined : await createTestCatalog()
  const catalog = real?.catalog ?? database!.catalog
  const keys = real ? undefined : await createTemporaryFolder()
  const logs: string[] = []
  const logger = pino({ level: 'debug' }, { write: (line: string) => void logs.push(line) })
  const operations = createRecordingOperations()
  const sessions = createSessions({ key: new Uint8Array(randomBytes(32)) })
  const clock = { now: new Date('2026-03-01T12:00:00.000Z') }
  const now = (): Date => (real ? new Date() : clock.now)
  const keysFolder = real ? homeFolders(real.home).keys : keys!.path
  const moverFiles = createMoverFiles(catalog, await loadFilesKey(keysFolder))
  const app = createApp({
    catalog,
    operations: real?.operations ?? operations,
    sessions,
    throttle: createLoginThrottle(() => clock.now.getTime()),
    logger,
    hostId: 'local',
    keysFolder,
    moverFiles,
    mountLease: { idleMs: 3_600_000, maximumMs: 86_400_000 },
    staleAfterMs: 900_000,
    now,
  })
  const tokens = new Map<Role, string>()
  for (const role of roles) {
    const id = `user-${role}`
    await catalog.insertInto('users').values({ id, username: role, password_hash: 'none', role }).execute()
    tokens.set(role, (await sessions.issue({ userId: id, username: role, role })).token)
  }
  const raw: TestApi['raw'] = async (method, path, { body, rawBody, headers = {}, as = 'admin' } = {}) =>
    app.request(`/api/v1${path}`, {
      method,
      headers: {
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
        ...(as !== null && { Authorization: `Bearer ${tokens.get(as)}` }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(rawBody !== undefined && { body: rawBody }),
    })
  const server = createAdaptorServer({ fetch: app.fetch })
  const document: OpenApiDocument = JSON.parse(await (await raw('GET', '/openapi.json')).text())
  const check = createAnswerCheck(document)
  return {
    catalog,
    operations,
    logger,
    logs,
    document,
    clock,
    raw,
    async call(method, path, options = {}) {
      const response = await raw(method, path, options)
      const body = JSON.parse(await response.text())
      check(method, `/api/v1${path}`, response.status, body)
      return { status: response.status, headers: response.headers, body }
    },
    keysFolder,
    async listen() {
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const address = server.address()
      if (typeof address !== 'object' || !address) throw new Error('the server has no port')
      return `http://127.0.0.1:${address.port}/api/v1`
    },
    authorizationOf: (role) => `Bearer ${tokens.get(role)}`,
    async drop() {
      server.close()
      if ('closeAllConnections' in server) server.closeAllConnections()
      moverFiles.close()
      await database?.drop()
      await keys?.remove()
    },
  }
}
