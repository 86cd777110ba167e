/** Every field of a repository with every separator that could mean something to mount(8), a shell, a path, a log or a line: refused before anything is done. */
import { assert, asyncProperty, constantFrom, nat, tuple } from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { countRows, insertRepository } from '../../test/catalog-rows.ts'

const canary = 'canary-0d6be2'
const nfs = { server: 'nas.example.com', export_path: '/exports/backups', mount_options: ['vers=4.2'] }
const cifs = { server: 'nas.example.com', share_name: 'backups', domain: 'EXAMPLE', username: 'me', password: canary }
const lines = ['\n', '\r', '\0', '\u001B', '\u0085']
const shell = [';', '|', '&', '`', '$(id)', '"', "'", '<', '>', '\\', '*', '?', '!']

/** A field, a valid value of it, and what may stand nowhere in one. */
const fields: { type: 'local' | 'nfs' | 'cifs'; field: string; valid: string; hostile: string[] }[] = [
  { type: 'local', field: 'name', valid: 'Weekly backups', hostile: [...lines, '\u2028', '\uD800'] },
  { type: 'local', field: 'path', valid: '/srv/backups/weekly', hostile: [...lines, '/../', '/./', '//', '\uD800'] },
  { type: 'nfs', field: 'server', valid: 'nas.example.com', hostile: [...lines, ...shell, ',', ' ', '/', '@', '=', '#', '%'] },
  { type: 'nfs', field: 'export_path', valid: '/exports/backups', hostile: [...lines, ...shell, ',', ' ', '/../', '#'] },
  { type: 'cifs', field: 'server', valid: 'nas.example.com', hostile: [...lines, ...shell, ',', ' ', '/', '@', '=', '#', '%'] },
  { type: 'cifs', field: 'share_name', valid: 'backups', hostile: [...lines, ...shell, ',', '/', ':', '='] },
  { type: 'cifs', field: 'domain', valid: 'EXAMPLE', hostile: [...lines, ...shell, ',', ' ', '/', '=', '%'] },
  { type: 'cifs', field: 'username', valid: 'backup_user', hostile: [...lines, ...shell, ',', '/', '=', '%'] },
  { type: 'cifs', field: 'password', valid: canary, hostile: lines },
]

const options = [
  'exec',
  'suid',
  'dev',
  'remount',
  'bind',
  'user',
  'hard',
  'rw,suid',
  'vers=4.2,exec',
  'vers=4.2\nexec',
  'vers=4.2\0',
  '',
  ' ',
  '-o',
  `password=${canary}`,
  `pass=${canary}`,
  'credentials=/etc/shadow',
  'cred=/x',
  'username=root',
  'sec=$(id)',
  'port=1;id',
  'ip=1.1.1.1,exec',
  'context="a,b"',
  'fsc=/etc',
  'helper=x',
  'comment=a',
  'x-systemd.automount',
]

let api: TestApi

beforeAll(async () => {
  api = await createTestApi()
  await insertRepository(api.catalog, 'repo-a', 'Alpha')
})
afterAll(() => api?.drop())

/** A valid value with something hostile in it, or behind it. */
const hostileValue = constantFrom(...fields).chain(({ type, field, valid, hostile }) =>
  tuple(constantFrom(...hostile), nat(valid.length - 1)).map(([text, at]) => ({
    type,
    field,
    value: valid.slice(0, at + 1) + text + valid.slice(at + 1),
  })),
)

function requestWith(type: 'local' | 'nfs' | 'cifs', field: string, value: unknown): { name: string; config: object } {
  const config = { local: { path: '/srv/backups' }, nfs, cifs }[type]
  return field === 'name' ? { name: String(value), config } : { name: 'New', config: { ...config, [field]: value } }
}

async function expectRefused(type: 'local' | 'nfs' | 'cifs', request: { name: string; config: object }): Promise<void> {
  const before = await countRows(api.catalog, 'sealed_credentials')
  const asked = [
    await api.call('POST', '/repositories', { body: { type, ...request } }),
    ...(request.name === 'New' ? [await api.call('POST', '/repositories/test', { body: { type, config: request.config } })] : []),
  ]
  for (const { status, body } of asked) {
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
    expect(JSON.stringify(body)).not.toContain(canary)
  }
  expect(api.operations.calls).toEqual([])
  expect(await countRows(api.catalog, 'sealed_credentials')).toBe(before)
  expect(await countRows(api.catalog, 'backup_repositories')).toBe(1)
  expect(await countRows(api.catalog, 'audit_events')).toBe(0)
}

test('anything hostile in any field is refused, and nothing is begun', async () => {
  await assert(
    asyncProperty(hostileValue, ({ type, field, value }) => expectRefused(type, requestWith(type, field, value))),
    { numRuns: 120 },
  )
  expect(api.logs.join('')).not.toContain(canary)
}, 60_000)

test.each(options)('the mount option %j is refused', async (option) => {
  for (const type of ['nfs', 'cifs'] as const) await expectRefused(type, requestWith(type, 'mount_options', [option]))
  expect(api.logs.join('')).not.toContain(canary)
})

test('values of another kind are refused in every field', async () => {
  for (const { type, field } of fields.filter(({ field }) => field !== 'name')) {
    for (const value of [1, true, ['a'], { toString: 'x' }, 'a'.repeat(5_000)])
      await expectRefused(type, requestWith(type, field, value))
  }
  expect(fields).toHaveLength(9)
  for (const field of ['constructor', 'options', 'credentials'])
    await expectRefused('nfs', { name: 'New', config: JSON.parse(`{"server":"nas","export_path":"/x","${field}":{"a":1}}`) })
}, 60_000)

test('a change is held to the same', async () => {
  for (const value of ['/srv/x\n', '/srv/../etc', '/srv//x', 'srv']) {
    const { status, body } = await api.call('PATCH', '/repositories/repo-a', { body: { config: { path: value } } })
    expect([status, body.error_code]).toEqual([400, 'INVALID_REQUEST'])
  }
  expect(api.operations.calls).toEqual([])
})
