/**
 * A share with a password through the whole product: real API, Temporal, workers and MariaDB. In the place of `mount.cifs` stands a program that is given the
 * same and checks the password, and then shows a folder instead of a server's share. What servers and kernels do is tested in `hosting/`.
 */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestApi } from '../test/api-app.ts'
import type { TestApi } from '../test/api-app.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { historiesOf } from '../test/workflow-histories.ts'
import { readMountInfo } from '../tools/mount-info.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('mount')

// Of this run alone: no other process has it in its arguments.
const canary = `canary${randomBytes(6).toString('hex')}`
const passwords = { first: `${canary}, "1" $x`, second: `${canary}, "2"`, wrong: `${canary}-3` }

/** Long enough to be seen in a list of processes. */
const MOUNT_CIFS = `#!/bin/sh
echo "$*" >> "$FAKE_SHARES/calls"
[ "$PASSWD_FD" = 3 ] || exit 1
password=$(cat <&3)
sleep 0.2
sum=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
grep -q "$sum" "$FAKE_SHARES/sha256" || { echo 'mount error(13): Permission denied' >&2; exit 32; }
exec mount -n --bind "$FAKE_SHARES/share" "$2"
`

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let holdfast: HoldfastProcesses
let api: TestApi
let repositoryId: string
const answers: string[] = []
const seen = { mountHelpers: 0, leaks: new Set<string>() }
const watching = new AbortController()
let watch: Promise<void>

beforeAll(async () => {
  folder = await createTemporaryFolder()
  for (const name of ['bin', 'share']) await mkdir(join(folder.path, name))
  await writeFile(join(folder.path, 'bin/mount.cifs'), MOUNT_CIFS)
  await chmod(join(folder.path, 'bin/mount.cifs'), 0o755)
  const sums = [passwords.first, passwords.second].map((password) => createHash('sha256').update(password).digest('hex'))
  await writeFile(join(folder.path, 'sha256'), `${sums.join('\n')}\n`)
  const environment = { FAKE_SHARES: folder.path, PATH: `${join(folder.path, 'bin')}:${process.env['PATH']}` }
  holdfast = await createHoldfastProcesses(['control', 'mover'], environment)
  api = await createTestApi({ real: holdfast })
  await holdfast.client.schedule.getHandle('reconcile').pause()
  watch = watchProcesses()
})
afterAll(async () => {
  watching.abort()
  await watch
  for (const path of await mountsNow()) await runTool('umount', ['-l', path], { timeoutMs: 10_000 })
  await api?.drop()
  await holdfast?.close()
  await folder?.remove()
})

/** What can be read of every process of this machine, again and again. Without waiting in between: a mount helper is there for a moment only. */
async function watchProcesses(): Promise<void> {
  for (; !watching.signal.aborted; await delay(50)) {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const command = textOf(`/proc/${pid}/cmdline`)
      if (command.includes('mount.cifs')) seen.mountHelpers += 1
      if (`${command}${textOf(`/proc/${pid}/environ`)}`.includes(canary)) seen.leaks.add(command.replaceAll('\0', ' '))
    }
    if (textOf('/proc/mounts').includes(canary)) seen.leaks.add('/proc/mounts')
  }
}

/** Empty for a process that has ended since. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

const mountsNow = async () =>
  (await readMountInfo()).map(({ mountPoint }) => mountPoint).filter((path) => path.startsWith(`${holdfast.home}/mounts/`))

/** The answer's body, with its status. */
async function call(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const answer = await api.call(method, path, body && { body })
  answers.push(JSON.stringify(answer.body))
  return { ...answer.body, http: answer.status }
}

const config = (password: string) => ({
  server: 'nas.invalid',
  share_name: 'backups',
  username: 'me',
  domain: 'EXAMPLE',
  password,
})
const inShare = () => readdir(join(folder.path, 'share'))
const storedCredentials = async () =>
  (await holdfast.catalog.selectFrom('sealed_credentials').select('id').execute()).map((row) => row.id)

test('a wrong password is refused, and nothing stays', async () => {
  const share = { type: 'cifs', config: config(passwords.wrong) }
  for (const [path, body] of [
    ['/repositories/test', share],
    ['/repositories', { ...share, name: 'Share' }],
  ] as const)
    expect(await call('POST', path, body)).toMatchObject({ http: 422, error_code: 'REPO_AUTHENTICATION_FAILED' })
  expect([await call('GET', '/repositories'), await storedCredentials(), await mountsNow(), await inShare()]).toMatchObject([
    { total_count: 0 },
    [],
    [],
    [],
  ])
})

test('a place is tested and left', async () => {
  const answer = await call('POST', '/repositories/test', { type: 'smb', config: config(passwords.first) })
  expect(answer).toMatchObject({ http: 200, storage: { writable: true } })
  expect([await storedCredentials(), await mountsNow(), await inShare()]).toEqual([[], [], []])
})

test('a share is registered, mounted, unmounted, and mounted again by its next use', async () => {
  const answer = await call('POST', '/repositories', { name: 'Share', type: 'cifs', config: config(passwords.first) })
  expect(answer).toMatchObject({ http: 201, storage: { writable: true } })
  repositoryId = String(answer['repository_id'])
  expect(await inShare()).toContain('holdfast-repository.json')
  const mountPoint = join(holdfast.home, 'mounts', repositoryId)
  expect([await mountsNow(), (await storedCredentials()).length]).toEqual([[mountPoint], 1])
  const path = `/repositories/${repositoryId}`
  expect(await call('GET', path)).toMatchObject({ repository: { config: { password_set: true, domain: 'EXAMPLE' } } })
  expect(await call('POST', `${path}/unmount`)).toMatchObject({ http: 200, mounted: false })
  expect(await mountsNow()).toEqual([])
  expect(await call('POST', `${path}/mount`)).toMatchObject({ http: 200, mounted: true, mount_point: mountPoint })
  await call('POST', `${path}/unmount`)
  expect(await call('POST', `${path}/test`)).toMatchObject({ http: 200 })
  expect(await mountsNow()).toEqual([mountPoint])
})

test('its password is changed to one that is right only', async () => {
  const path = `/repositories/${repositoryId}`
  const before = await storedCredentials()
  const refused = await call('PATCH', path, { config: { password: passwords.wrong } })
  expect(refused).toMatchObject({ http: 422, error_code: 'REPO_AUTHENTICATION_FAILED' })
  expect(await storedCredentials()).toEqual(before)
  expect(await call('POST', `${path}/test`)).toMatchObject({ http: 200 })
  expect(await call('PATCH', path, { config: { password: passwords.second } })).toMatchObject({ http: 200 })
  const after = await storedCredentials()
  expect(after).toHaveLength(1)
  expect(after).not.toEqual(before)
  expect(await call('POST', `${path}/test`)).toMatchObject({ http: 200 })
  expect(await mountsNow()).toEqual([join(holdfast.home, 'mounts', repositoryId)])
})

test('deleted, nothing of it stays', async () => {
  expect(await call('DELETE', `/repositories/${repositoryId}`)).toMatchObject({ http: 200, cleared: true })
  expect([await storedCredentials(), await mountsNow(), await inShare()]).toEqual([[], [], []])
})

test('the passwords that were given stand in no history, log, answer, process list or table', async () => {
  watching.abort()
  await watch
  expect(seen.mountHelpers, 'mount helpers seen').toBeGreaterThan(0)
  expect([...seen.leaks]).toEqual([])
  const histories = await historiesOf(holdfast.client)
  expect(histories.some(({ text }) => text.includes('nas.invalid'))).toBe(true)
  const places = [
    ...histories,
    { where: 'the answers', text: answers.join('') },
    { where: "the API's log", text: api.logs.join('') },
    { where: 'what the processes printed', text: holdfast.output() },
    { where: 'the arguments of mount.cifs', text: await readFile(join(folder.path, 'calls'), 'utf8') },
    ...(await tableTexts()),
  ]
  for (const file of await readdir(holdfast.home, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    places.push({ where: file.name, text: await readFile(join(file.parentPath, file.name), 'latin1') })
  }
  for (const { where, text } of places) expect(text.includes(canary), where).toBe(false)
})

async function tableTexts(): Promise<{ where: string; text: string }[]> {
  const { catalog } = holdfast
  const tables = await sql<{
    name: string
  }>`select table_name as name from information_schema.tables where table_schema = database()`.execute(catalog)
  return Promise.all(
    tables.rows.map(async ({ name }) => {
      const { rows } = await sql<Record<string, unknown>>`select * from ${sql.table(name)}`.execute(catalog)
      const cells = rows
        .flatMap((row) => Object.values(row))
        .map((cell) => (Buffer.isBuffer(cell) ? cell.toString('latin1') : JSON.stringify(cell)))
      return { where: `table ${name}`, text: cells.join('\n') }
    }),
  )
}
