/** Browsing through the real file service on a folder of this machine: what is asked, what is answered, what the audit trail holds. */
import { mkdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Volume } from '../../domain/restore-mount.ts'
import { nameFromBytes } from '../../mounts/file-names.ts'
import { runTool } from '../../tools/run-tool.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { Answer, TestApi } from '../../test/api-app.ts'
import { countRows, insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { rootVolume, serveFolders } from '../../test/mounted-folder.ts'
import { searchLine } from '../schemas/restore-files.ts'
import type { MountedFolders } from '../../test/mounted-folder.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'

interface FileList {
  path: string
  files: { name: string; path: string; type: string; kind: string; problem: string | null }[]
  count: number
  total_count: number
  next_cursor: string | null
}

let api: TestApi
let mover: MountedFolders
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let one: string
let several: string

/** Names of bytes: a line break, invalid UTF-8, 255 bytes, what stands for something in addresses, and U+F7FF itself. */
const oddNames = [
  Buffer.from('line\nbreak'),
  Buffer.from([0x63, 0x61, 0x66, 0xe9]),
  Buffer.alloc(255, 'x'),
  Buffer.from('100% +&=?#;"\\ <b>.html'),
  Buffer.from('%2e%2e'),
  Buffer.from('Ünïcödé 漢字 🙂'),
  Buffer.from('\uf7ff'),
]

beforeAll(async () => {
  folder = await createTemporaryFolder()
  await fill(folder.path)
  api = await createTestApi()
  await insertVm(api.catalog, 'ctx-web', 'web')
  await insertRepository(api.catalog, 'repo-1')
  await insertBackup(api.catalog, { id: 'backup-1', vm_context_id: 'ctx-web', repository_id: 'repo-1' })
  for (const disk of [0, 1, 2]) await insertBackupDisk(api.catalog, 'backup-1', disk)
  mover = await serveFolders(api)
  one = await mover.mount('backup-1', folder.path)
  const volumes: Volume[] = ['partition-1', 'vg0-root'].map((id) => ({ ...rootVolume, id }))
  const locked: Volume = { ...rootVolume, id: 'partition-2', state: 'encrypted', fileSystem: 'crypto_LUKS' }
  several = await mover.mount('backup-1', folder.path, { diskIndex: 1, volumes: [...volumes, locked] })
})
afterAll(async () => {
  await mover?.close()
  await api?.drop()
  await folder?.remove()
})
beforeEach(async () => {
  await api.catalog.deleteFrom('audit_events').execute()
})

async function fill(root: string): Promise<void> {
  await mkdir(join(root, 'etc'))
  await writeFile(join(root, 'etc/hosts'), '127.0.0.1 localhost\n', { mode: 0o640 })
  await utimes(join(root, 'etc/hosts'), 1_700_000_000, 1_700_000_000.5)
  await symlink('/etc/shadow', join(root, 'link-to-host'))
  await symlink('..', join(root, 'etc/up'))
  await runTool('mkfifo', [join(root, 'pipe')], { timeoutMs: 10_000 })
  await mkdir(join(root, 'odd'))
  for (const name of oddNames) {
    await writeFile(Buffer.concat([Buffer.from(join(root, 'odd/')), name]), name)
  }
  await mkdir(join(root, 'many'))
  for (let number = 0; number < 25; number++) await writeFile(join(root, `many/${String(number).padStart(3, '0')}`), '')
}

const list = (query: string, mount = one): Promise<Answer<FileList>> =>
  api.call<FileList>('GET', `/restore/${mount}/files?${query}`, { as: 'operator' })
const listPath = (path: string, mount = one) => list(`path=${encodeURIComponent(path)}`, mount)
const auditRows = () =>
  api.catalog
    .selectFrom('audit_events')
    .select(['action', 'subject_id', 'details', 'username', 'request_id'])
    .orderBy('id')
    .execute()

describe('browsing', () => {
  test('a folder, with every documented field', async () => {
    const { status, body } = await listPath('/etc')
    expect([status, body]).toEqual([
      200,
      {
        success: true,
        mount_id: one,
        path: '/etc',
        files: [
          {
            name: 'hosts',
            path: '/etc/hosts',
            type: 'file',
            kind: 'file',
            size: 20,
            mode: '0640',
            modified_time: expect.stringMatching(/^2023-11-14T22:13:20\.5\d*Z$/),
            is_symlink: false,
            link_target: null,
            uid: process.getuid?.(),
            gid: process.getgid?.(),
            problem: null,
          },
          expect.objectContaining({ name: 'up', type: 'file', kind: 'symlink', is_symlink: true, link_target: '..' }),
        ],
        count: 2,
        total_count: 2,
        next_cursor: null,
      },
    ])
  })

  test('the root, also when no path is given', async () => {
    const { body } = await list('')
    expect(body.files.map(({ name, type, kind }) => [name, type, kind])).toEqual([
      ['etc', 'directory', 'directory'],
      ['link-to-host', 'file', 'symlink'],
      ['many', 'directory', 'directory'],
      ['odd', 'directory', 'directory'],
      ['pipe', 'file', 'fifo'],
    ])
    expect((await listPath('/')).body).toEqual(body)
    expect((await listPath('//etc///')).body.path).toBe('/etc')
  })

  test('names of any bytes, and each is found again by the path it was given with', async () => {
    const { body } = await listPath('/odd')
    const expected = oddNames.map((name) => nameFromBytes(name))
    expect(body.files.map(({ name }) => name).sort()).toEqual(expected.sort())
    for (const { name, path } of body.files) {
      const response = await api.raw('GET', `/restore/${one}/download?path=${encodeURIComponent(path)}`)
      const content = Buffer.from(await response.arrayBuffer())
      expect([response.status, nameFromBytes(content)]).toEqual([200, name])
    }
  })

  test('in pages', async () => {
    const first = await list('path=/many&limit=10')
    const second = await list(`path=/many&limit=10&cursor=${first.body.next_cursor}`)
    const third = await list(`path=/many&limit=10&cursor=${second.body.next_cursor}`)
    const names = [first, second, third].flatMap(({ body }) => body.files.map(({ name }) => name))
    expect(names).toEqual((await listPath('/many')).body.files.map(({ name }) => name))
    expect([first, second, third].map(({ body }) => [body.count, body.total_count])).toEqual([
      [10, 25],
      [10, 25],
      [5, 25],
    ])
    expect(third.body.next_cursor).toBeNull()
  })

  test('several volumes: each is a folder of the root, and what cannot be read says why', async () => {
    const { body } = await listPath('/', several)
    expect(body.files).toMatchObject([
      { name: 'partition-1', path: '/partition-1', type: 'directory', problem: null },
      { name: 'partition-2', kind: 'unknown', problem: expect.stringContaining('encrypted') },
      { name: 'vg0-root', type: 'directory' },
    ])
    expect((await listPath('/vg0-root/etc', several)).body.files.map(({ path }) => path)).toContain('/vg0-root/etc/hosts')
    const locked = await listPath('/partition-2', several)
    expect([locked.status, locked.body.error_code]).toEqual([422, 'FILE_SYSTEM_UNREADABLE'])
  })
})

describe('refusals', () => {
  test.each([
    ['dots', 'path=/etc/../../etc', 400, 'FILE_PATH_INVALID'],
    ['encoded dots', 'path=/%2e%2e/%2e%2e/etc/shadow', 400, 'FILE_PATH_INVALID'],
    ['encoded slashes', 'path=%2Fetc%2F..%2F..%2F', 400, 'FILE_PATH_INVALID'],
    ['a single dot', 'path=/./etc', 400, 'FILE_PATH_INVALID'],
    ['dots encoded twice, which are a name', 'path=/%252e%252e/etc', 404, 'FILE_NOT_FOUND'],
    ['slashes encoded twice, which are a name', 'path=/etc%252fhosts', 404, 'FILE_NOT_FOUND'],
    ['NUL', 'path=/etc%00/hosts', 400, 'FILE_PATH_INVALID'],
    ['a relative path', 'path=etc', 400, 'FILE_PATH_INVALID'],
    ['an empty path', 'path=', 400, 'FILE_PATH_INVALID'],
    ['backslashes, which are a name', 'path=/..%5C..%5Cetc', 404, 'FILE_NOT_FOUND'],
    ['bytes that are no UTF-8', 'path=/odd/caf%E9', 400, 'FILE_PATH_INVALID'],
    ['half an encoding', 'path=/odd/100%', 400, 'FILE_PATH_INVALID'],
    ['an overlong encoding of a dot', 'path=/%c0%ae%c0%ae/', 400, 'FILE_PATH_INVALID'],
    ['a folder that leads through a link', 'path=/etc/up/etc', 409, 'NOT_A_DIRECTORY'],
    ['a link', 'path=/link-to-host', 409, 'NOT_A_DIRECTORY'],
    ['a file', 'path=/etc/hosts', 409, 'NOT_A_DIRECTORY'],
    ['what is not there', 'path=/nothing', 404, 'FILE_NOT_FOUND'],
    ['a path without end', `path=/${'x/'.repeat(5000)}`, 400, 'FILE_PATH_INVALID'],
    ['no page at all', 'path=/&limit=0', 400, 'INVALID_REQUEST'],
    ['a page without end', 'path=/&limit=1001', 400, 'INVALID_REQUEST'],
    ['a cursor of nothing', 'path=/&cursor=abc', 400, 'INVALID_REQUEST'],
    ['two paths', 'path=/&path=/etc', 400, 'INVALID_REQUEST'],
    ['an unknown parameter', 'path=/&follow=1', 400, 'INVALID_REQUEST'],
  ])('%s', async (_what, query, status, code) => {
    const { status: heard, body } = await list(query)
    expect([heard, body.error_code]).toEqual([status, code])
    const asked = code !== 'FILE_PATH_INVALID' && code !== 'INVALID_REQUEST'
    expect(await countRows(api.catalog, 'audit_events')).toBe(asked ? 1 : 0)
    expect(JSON.stringify(body)).not.toContain(folder.path)
  })

  test.each(['files', 'estimate', 'search', 'download', 'download-directory'])('%s is not for viewers', async (what) => {
    const answer = await api.call('GET', `/restore/${one}/${what}?path=/&name=x`, { as: 'viewer' })
    expect([answer.status, answer.body.error_code]).toEqual([403, 'FORBIDDEN'])
    expect(await countRows(api.catalog, 'audit_events')).toBe(0)
  })

  test('a host that serves no files: MOVER_UNAVAILABLE', async () => {
    const { catalog } = api
    await catalog.updateTable('restore_mounts').set({ host_id: 'far-away' }).where('id', '=', one).execute()
    try {
      const { status, body, headers } = await listPath('/')
      expect([status, body.error_code, headers.get('Retry-After')]).toEqual([503, 'MOVER_UNAVAILABLE', '5'])
      expect(body.error).toContain('far-away')
    } finally {
      await catalog.updateTable('restore_mounts').set({ host_id: 'local' }).where('id', '=', one).execute()
    }
  })

  test('a mount that its mover does not hold just now: MOUNT_INTERRUPTED', async () => {
    const { catalog } = api
    await catalog.updateTable('restore_mounts').set({ id: 'elsewhere' }).where('id', '=', one).execute()
    try {
      const { status, body } = await listPath('/', 'elsewhere')
      expect([status, body.error_code]).toEqual([503, 'MOUNT_INTERRUPTED'])
    } finally {
      await catalog.updateTable('restore_mounts').set({ id: one }).where('id', '=', 'elsewhere').execute()
    }
  })
})

describe('counting a folder', () => {
  test('before it is downloaded', async () => {
    const { status, body } = await api.call('GET', `/restore/${one}/estimate?path=/etc`, { as: 'operator' })
    expect([status, body]).toEqual([
      200,
      {
        success: true,
        mount_id: one,
        path: '/etc',
        file_count: 1,
        folder_count: 0,
        other_count: 1,
        problem_count: 0,
        total_bytes: 20,
        complete: true,
      },
    ])
    expect(await auditRows()).toMatchObject([{ action: 'file.estimate', details: { path: '/etc' } }])
  })

  test('of what is none: NOT_A_DIRECTORY', async () => {
    const { status, body } = await api.call('GET', `/restore/${one}/estimate?path=/etc/hosts`)
    expect([status, body.error_code]).toEqual([409, 'NOT_A_DIRECTORY'])
  })
})

describe('searching', () => {
  const search = (query: string) => api.raw('GET', `/restore/${one}/search?${query}`, { as: 'operator' })
  const linesOf = async (response: Response): Promise<Record<string, unknown>[]> =>
    (await response.text())
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))

  test('gives a line for each match, and the summary', async () => {
    const response = await search('path=/&name=HOST')
    expect([response.status, response.headers.get('Content-Type')]).toEqual([200, 'application/x-ndjson'])
    const lines = await linesOf(response)
    expect(lines.map((line) => searchLine.safeParse(line).success)).toEqual([true, true, true])
    expect(lines.slice(0, -1)).toMatchObject([
      { type: 'file', file: { path: '/link-to-host', kind: 'symlink', type: 'file' } },
      { type: 'file', file: { path: '/etc/hosts', size: 20, mode: '0640', is_symlink: false } },
    ])
    expect(lines.at(-1)).toEqual({
      type: 'summary',
      searched: expect.any(Number),
      found: 2,
      problems: 0,
      complete: true,
      stopped_by: null,
    })
    expect(await auditRows()).toMatchObject([
      { action: 'file.search', details: { path: '/', name: 'HOST' }, username: 'operator' },
    ])
  })

  test('stops at the limit, and says so', async () => {
    const lines = await linesOf(await search('path=/many&name=*&limit=3'))
    expect(lines).toHaveLength(4)
    expect(lines.at(-1)).toMatchObject({ type: 'summary', found: 3, complete: false, stopped_by: 'results' })
  })

  test('needs a name and a folder', async () => {
    expect((await search('path=/')).status).toBe(400)
    expect((await search('path=/nothing&name=x')).status).toBe(404)
  })
})

describe('the audit trail', () => {
  test('holds each access before it is asked for, whether it succeeds or not', async () => {
    const odd = (await listPath('/odd')).body.files.find(({ name }) => name.startsWith('caf'))
    await api.catalog.deleteFrom('audit_events').execute()
    await api.call('GET', `/restore/${one}/files?path=/many&limit=10`, { as: 'operator', headers: { 'X-Request-Id': 'first' } })
    await listPath('/nothing')
    await listPath(odd?.path ?? '')
    const common = { action: 'file.list', subject_id: one, username: 'operator' }
    const details = { backup_id: 'backup-1', disk_index: 0, first: 0 }
    expect(await auditRows()).toEqual([
      { ...common, request_id: 'first', details: { ...details, path: '/many' } },
      { ...common, request_id: expect.any(String), details: { ...details, path: '/nothing' } },
      { ...common, request_id: expect.any(String), details: { ...details, path: '/odd/caf\uf7e9' } },
    ])
  })

  test('what cannot be written into it is not done: CATALOG_UNAVAILABLE', async () => {
    await api.catalog.schema.alterTable('audit_events').renameTo('audit_events_away').execute()
    const readBefore = mover.counts.bytes
    try {
      const browsed = await listPath('/etc')
      expect([browsed.status, browsed.body.error_code]).toEqual([503, 'CATALOG_UNAVAILABLE'])
      const downloaded = await api.call('GET', `/restore/${one}/download?path=/etc/hosts`)
      expect([downloaded.status, downloaded.body.error_code]).toEqual([503, 'CATALOG_UNAVAILABLE'])
    } finally {
      await api.catalog.schema.alterTable('audit_events_away').renameTo('audit_events').execute()
    }
    expect(mover.counts.bytes).toBe(readBefore)
  })

  test('paths and names that were looked for stand in no log', async () => {
    await listPath('/etc/canary-folder')
    await api.raw('GET', `/restore/${one}/search?path=/etc&name=canary-name`)
    expect(api.logs.join('')).toContain(`/restore/${one}/search`)
    expect(api.logs.join('')).not.toContain('canary')
  })
})
