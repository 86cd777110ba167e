/** The commands as a person runs them, and the processes that refuse a key that does not fit: a catalog whose credentials belong to this host. */
import { randomBytes } from 'node:crypto'
import { rename, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from 'vitest'
import { startNodeProcess } from '../dev/node-process.ts'
import { freePort } from '../dev/ports.ts'
import { CREDENTIALS_KEY_FILE } from '../security/credentials-keys.ts'
import { sealCredentials, unsealCredentials } from '../security/sealed-credentials.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertSource } from '../test/catalog-rows.ts'
import { failureOf } from '../test/failure.ts'
import { TEST_NAMESPACE } from '../test/temporal.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { startTool } from '../tools/run-tool.ts'

const checkout = resolve(import.meta.dirname, '..')
const secret = { ssh_private_key: 'canary-2d91' }
let database: TestCatalog
let home: Awaited<ReturnType<typeof createTemporaryFolder>>
let keys: string
let credentialsId: string
let environment: Record<string, string>

beforeAll(async () => {
  database = await createTestCatalog()
  home = await createTemporaryFolder()
  keys = join(home.path, 'keys')
  credentialsId = await sealCredentials(database.catalog, keys, secret)
  await insertSource(database.catalog, 'source-1', { credentials_id: credentialsId, name: 'kvm' })
  environment = {
    HOLDFAST_HOME: home.path,
    DATABASE_URL: database.databaseUrl,
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    TEMPORAL_NAMESPACE: TEST_NAMESPACE,
    NODE_NO_WARNINGS: '1',
  }
})
afterAll(async () => {
  await database?.drop()
  await home?.remove()
})

async function runCommand(name: string, args: string[] = [], env: Record<string, string> = {}) {
  let output = ''
  const child = startTool(process.execPath, [join(checkout, `commands/${name}.ts`), ...args], {
    env: { ...environment, ...env },
    onOutput: (text) => (output += text),
  })
  onTestFinished(() => child.stop(1_000))
  const { exitCode } = await child.exited
  expect(output).not.toContain('canary')
  return { exitCode, output }
}

/** What a process says that does not start. */
async function refusalOf(script: string): Promise<string> {
  let output = ''
  const started = startNodeProcess({
    name: script,
    script: join(checkout, script),
    env: { ...environment, HOLDFAST_API_PORT: String(await freePort()) },
    signal: new AbortController().signal,
    onOutput: (text) => (output += text),
    logPath: 'none',
  })
  const { message } = await failureOf(started)
  expect(message).toContain('ended (exit code 1) before it was ready')
  expect(output).toContain('"code":"CREDENTIALS_KEY_INVALID"')
  expect(output).not.toContain('canary')
  return output
}

test('the key is rotated, and what is sealed opens as before', async () => {
  const { exitCode, output } = await runCommand('rotate-credentials-key')
  expect(output).toMatch(/Done: 1 stored credentials .*\n.*copies[^]*credentials\.key\.old-[0-9a-f]{16}\n.*shred -u/)
  expect(exitCode).toBe(0)
  expect(await unsealCredentials(database.catalog, keys, credentialsId)).toEqual(secret)
})

test('without its MariaDB a command says what to start, and what it does not know it refuses', async () => {
  const away = await runCommand('rotate-credentials-key', [], { DATABASE_URL: 'mysql://nobody@localhost/x?socketPath=/nowhere' })
  expect(away).toMatchObject({ exitCode: 1, output: expect.stringContaining('npm start') })
  const wrong = await runCommand('forget-lost-credentials', ['--yes'])
  expect(wrong).toMatchObject({ exitCode: 1, output: '"--yes" is not known here: give nothing, or "-- --confirm".\n' })
})

test('neither API nor mover starts without the key, or with another; they say which file, and what to do', async () => {
  const path = join(keys, CREDENTIALS_KEY_FILE)
  await rename(path, `${path}.away`)
  const words = await Promise.all([refusalOf('api/main.ts'), refusalOf('worker/mover.ts')])
  for (const text of words) expect(text).toMatch(/credentials\.key is missing\. 1 set .*every host.*forget-lost-credentials/)
  await writeFile(path, randomBytes(32), { mode: 0o600 })
  expect(await refusalOf('worker/mover.ts')).toMatch(/is not the one that sealed 1 of 1 stored credentials/)
  await rename(`${path}.away`, path)
})

test('an API that waits for its catalog ends when that comes with credentials of another key', async () => {
  const path = join(keys, CREDENTIALS_KEY_FILE)
  await rename(path, `${path}.away`)
  const socketPath = join(home.path, 'late.sock')
  const late = new URL(database.databaseUrl)
  late.searchParams.set('socketPath', socketPath)
  let output = ''
  const api = startTool(process.execPath, [join(checkout, 'api/main.ts')], {
    env: { ...environment, DATABASE_URL: late.href, HOLDFAST_API_PORT: String(await freePort()) },
    onOutput: (text) => (output += text),
  })
  onTestFinished(() => api.stop(1_000))
  await expect.poll(() => output).toContain('"msg":"ready"')
  await symlink(inject('mariadbSocket'), socketPath)
  expect(await api.exited).toMatchObject({ exitCode: 1 })
  expect(output).toContain('credentials.key is missing. 1 set')
  await rename(`${path}.away`, path)
})

test('credentials whose key is lost are forgotten once that is confirmed', async () => {
  await writeFile(join(keys, CREDENTIALS_KEY_FILE), randomBytes(32), { mode: 0o600 })
  const asked = await runCommand('forget-lost-credentials')
  expect(asked.output).toMatch(/source "kvm" \(source-1\)[^]*-- --confirm/)
  expect(await database.catalog.selectFrom('sealed_credentials').select('id').execute()).toHaveLength(1)
  const done = await runCommand('forget-lost-credentials', ['--confirm'])
  expect(done).toMatchObject({ exitCode: 0, output: expect.stringContaining('Forgotten: 1 stored credentials.') })
  expect(await database.catalog.selectFrom('sources').select(['id', 'credentials_id']).execute()).toEqual([
    { id: 'source-1', credentials_id: null },
  ])
  expect((await runCommand('forget-lost-credentials', ['--confirm'])).output).toContain('Nothing to do')
})
