import { link, mkdir, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { nameFromBytes } from '../mounts/file-names.ts'
import { signRequest } from '../security/signed-requests.ts'
import { serveFiles, volume } from '../test/served-files.ts'
import type { ServedFiles } from '../test/served-files.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'
import { estimateFolder } from './estimate.ts'
import { MountTree } from './mount-tree.ts'
import type { SearchLine } from './mounted-file.ts'
import { searchFolder } from './search.ts'
import type { SearchBounds } from './search.ts'

const MANY = 3_000
const oddNames = [
  Buffer.from('line\nbreak'),
  Buffer.from('back\\slash'),
  Buffer.from([0x66, 0xff, 0x80]),
  Buffer.alloc(255, 0x7a),
  Buffer.from('Größe "1" %2F.txt'),
  Buffer.from('..x'),
]

let root: { path: string; remove(): Promise<void> }
/** One volume that can be read. */
let one: ServedFiles
/** Three, and a vault. */
let several: ServedFiles

beforeAll(async () => {
  root = await createTemporaryFolder()
  await mkdir(join(root.path, 'odd'))
  for (const name of oddNames) await writeFile(Buffer.concat([Buffer.from(`${root.path}/odd/`), name]), name)
  await mkdir(join(root.path, 'many/deep/er'), { recursive: true })
  for (let number = 0; number < MANY; number++) await writeFile(join(root.path, `many/file-${number}.txt`), '')
  await mkdir(join(root.path, 'kinds/folder'), { recursive: true })
  await writeFile(join(root.path, 'kinds/file'), 'twelve bytes', { mode: 0o640 })
  await utimes(join(root.path, 'kinds/file'), 1_700_000_000, 1_700_000_000.25)
  await link(join(root.path, 'kinds/file'), join(root.path, 'kinds/hard'))
  await symlink('/etc/shadow', join(root.path, 'kinds/link'))
  await symlink('.', join(root.path, 'kinds/loop'))
  await runTool('mkfifo', [join(root.path, 'kinds/pipe')], { timeoutMs: 10_000 })
  await writeFile(join(root.path, 'kinds/folder/Needle-1.TXT'), 'a')
  await writeFile(join(root.path, 'kinds/folder/needle'), '')
  await truncate(join(root.path, 'kinds/folder/needle'), 5_000_000_000)
  one = await serveFiles([
    { volume: volume('partition-1'), folder: root.path },
    { volume: volume('partition-2', { state: 'swap' }), folder: null },
  ])
  several = await serveFiles([
    { volume: volume('vg0-odd'), folder: join(root.path, 'odd') },
    { volume: volume('partition-9'), folder: join(root.path, 'kinds') },
    { volume: volume('vault', { state: 'encrypted', fileSystem: 'crypto_LUKS' }), folder: null },
    { volume: volume('swap', { state: 'swap' }), folder: null },
  ])
})

afterAll(async () => {
  await Promise.all([one, several].map((served) => served.close()))
  await root.remove()
})

const failure = async (served: ServedFiles, path: string): Promise<unknown> => {
  const { status, body } = await served.ask(path)
  return { status, ...(JSON.parse(body.toString()) as object) }
}

describe('a folder', () => {
  it('tells of every kind of entry, in the order of their names', async () => {
    const page = await one.json('files?path=%2Fkinds%2F')
    expect(page).toMatchObject({
      path: '/kinds',
      total: 6,
      files: [
        {
          name: 'file',
          path: '/kinds/file',
          kind: 'file',
          mode: 0o640,
          sizeBytes: 12,
          modified: '2023-11-14T22:13:20.250000000Z',
        },
        { name: 'folder', kind: 'directory', sizeBytes: 0, target: null },
        { name: 'hard', kind: 'file', sizeBytes: 12 },
        { name: 'link', kind: 'symlink', target: '/etc/shadow' },
        { name: 'loop', kind: 'symlink', target: '.' },
        { name: 'pipe', kind: 'fifo', problem: null },
      ],
    })
  })

  it('comes in pages', async () => {
    expect(await one.json('files?path=/many')).toMatchObject({ total: MANY + 1, files: { length: 1_000 } })
    expect(await one.json('files?path=/many&first=2999&most=5000')).toMatchObject({ total: MANY + 1, files: { length: 2 } })
    expect(await one.json('files?path=/many&first=9999')).toMatchObject({ total: MANY + 1, files: [] })
  })

  it('has names that lead back to their files, whatever they hold', async () => {
    const { files } = (await one.json('files?path=/odd')) as { files: { name: string; path: string }[] }
    expect(files.map(({ name }) => name)).toEqual(
      oddNames.toSorted((a, b) => Buffer.compare(a, b)).map((name) => nameFromBytes(name)),
    )
    for (const { path, name } of files) {
      const { status, body } = await one.ask(`download?path=${encodeURIComponent(path)}`)
      expect(status).toBe(200)
      expect(nameFromBytes(body)).toBe(name)
    }
  })

  it.each([
    ['files?path=/kinds/nothing', 404, 'FILE_NOT_FOUND'],
    ['files?path=/kinds/file', 409, 'NOT_A_DIRECTORY'],
    ['files?path=/kinds/loop/loop', 409, 'NOT_A_DIRECTORY'],
    ['download?path=/kinds/folder', 409, 'NOT_A_FILE'],
    ['download?path=/kinds/link', 409, 'NOT_A_FILE'],
    ['download?path=/kinds/pipe', 409, 'NOT_A_FILE'],
    ['download?path=/kinds/../../etc/passwd', 400, 'FILE_PATH_INVALID'],
    ['download?path=/kinds/%2e%2e/%2e%2e/etc/passwd', 400, 'FILE_PATH_INVALID'],
    ['download?path=/kinds%00', 400, 'FILE_PATH_INVALID'],
    ['download?path=etc', 400, 'FILE_PATH_INVALID'],
    ['download', 400, 'INVALID_REQUEST'],
    ['files?path=/&most=5001', 400, 'INVALID_REQUEST'],
    ['files?path=/&first=-1', 400, 'INVALID_REQUEST'],
    ['search?path=/', 400, 'INVALID_REQUEST'],
    ['search?path=/nothing&name=x', 404, 'FILE_NOT_FOUND'],
    ['estimate?path=/kinds/file', 409, 'NOT_A_DIRECTORY'],
    ['download-directory?path=/kinds/file', 409, 'NOT_A_DIRECTORY'],
    ['download-directory?path=/kinds&format=rar', 400, 'INVALID_REQUEST'],
    ['nothing', 404, 'ROUTE_NOT_FOUND'],
  ])('%s is refused: %d %s', async (path, status, code) => {
    expect(await failure(one, path)).toEqual({ status, code, message: expect.any(String), details: expect.any(Object) })
  })
})

describe('a disk with several volumes', () => {
  it('has them as its folders, and says of others why they cannot be read', async () => {
    expect(await several.json('files')).toMatchObject({
      path: '/',
      total: 3,
      files: [
        { name: 'partition-9', path: '/partition-9', kind: 'directory', problem: null },
        { name: 'vault', kind: 'unknown', modified: null, problem: 'it is encrypted (crypto_LUKS)' },
        { name: 'vg0-odd', kind: 'directory' },
      ],
    })
    expect(await several.json('files?path=/partition-9')).toMatchObject({ total: 6, files: { 0: { path: '/partition-9/file' } } })
    expect((await several.ask('download?path=/partition-9/file')).body.toString()).toBe('twelve bytes')
    expect(await several.json('volumes')).toEqual({ volumes: several.mount.reader.volumes })
  })

  it.each([
    ['files?path=/vault', 422, 'FILE_SYSTEM_UNREADABLE'],
    ['download?path=/vault/x', 422, 'FILE_SYSTEM_UNREADABLE'],
    ['files?path=/file', 404, 'FILE_NOT_FOUND'],
    ['download?path=/', 409, 'NOT_A_FILE'],
  ])('%s is refused: %d %s', async (path, status, code) => {
    expect(await failure(several, path)).toMatchObject({ status, code })
  })
})

describe('an estimate', () => {
  it('counts everything below, links and pipes as what they are', async () => {
    expect(await one.json('estimate?path=/kinds')).toEqual({
      path: '/kinds',
      files: 4,
      folders: 1,
      others: 3,
      bytes: 5_000_000_025,
      problems: 0,
      complete: true,
    })
    expect(await several.json('estimate')).toMatchObject({ folders: 3, files: 4 + oddNames.length, problems: 1, complete: true })
  })
})

describe('a search', () => {
  const search = async (query: string): Promise<Record<string, unknown>[]> => {
    const { status, headers, body } = await one.ask(`search?${query}`)
    expect([status, headers['content-type']]).toEqual([200, 'application/x-ndjson'])
    const lines = body.toString().split('\n')
    expect(lines.pop()).toBe('')
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  }

  it('finds parts of names, in any case, and goes into no link', async () => {
    expect(await search('path=/kinds&name=needle')).toMatchObject([
      { type: 'file', file: { path: '/kinds/folder/Needle-1.TXT', sizeBytes: 1 } },
      { type: 'file', file: { path: '/kinds/folder/needle', sizeBytes: 5_000_000_000 } },
      { type: 'summary', searched: 8, found: 2, problems: 0, complete: true, stoppedBy: null },
    ])
  })

  it('finds patterns', async () => {
    expect(await search('name=file-29%3F%3F.t*')).toHaveLength(101)
    expect(await search('name=no-such-name')).toEqual([
      expect.objectContaining({ type: 'summary', found: 0, searched: MANY + 19, complete: true }),
    ])
  })

  it('ends when it has found enough, and says so', async () => {
    const lines = await search('name=file-&limit=10')
    expect(lines).toHaveLength(11)
    expect(lines.at(-1)).toMatchObject({ type: 'summary', found: 10, complete: false, stoppedBy: 'results' })
    expect((await search(`name=file-29*&limit=111`)).at(-1)).toMatchObject({ found: 111, complete: true })
  })
})

async function linesOf(search: AsyncIterable<SearchLine>): Promise<SearchLine[]> {
  const lines: SearchLine[] = []
  for await (const line of search) lines.push(line)
  return lines
}

describe('what takes long', () => {
  const never = new AbortController().signal
  const enough = { results: 10, entries: 1_000_000, timeMs: 60_000 }
  const lastLine = async (bounds: SearchBounds): Promise<SearchLine | undefined> => {
    const lines = await linesOf(searchFolder(new MountTree(one.mount.reader), { path: '/', name: 'no-such' }, never, bounds))
    return lines.at(-1)
  }

  it('is cut short by the number of entries, and by the time, and says so', async () => {
    const tree = new MountTree(one.mount.reader)
    const counted = await estimateFolder(tree, '/', never, { timeMs: 60_000, entries: 100 })
    expect(counted).toMatchObject({ complete: false, problems: 0 })
    expect(counted.files + counted.folders + counted.others).toBe(100)
    expect(await estimateFolder(tree, '/', never, { timeMs: 0, entries: 1_000_000 })).toMatchObject({ complete: false })
    expect(await lastLine({ ...enough, entries: 50 })).toMatchObject({
      type: 'summary',
      searched: 50,
      complete: false,
      stoppedBy: 'entries',
    })
    expect(await lastLine({ ...enough, timeMs: 0 })).toMatchObject({ type: 'summary', complete: false, stoppedBy: 'time' })
    expect(await lastLine(enough)).toMatchObject({ complete: true, stoppedBy: null })
  })

  it('ends with the reason when nobody waits any more', async () => {
    const gone = AbortSignal.abort(new Error('gone'))
    const tree = new MountTree(one.mount.reader)
    await expect(estimateFolder(tree, '/', gone)).rejects.toThrow('gone')
    await expect(linesOf(searchFolder(tree, { path: '/', name: 'x' }, gone))).rejects.toThrow('gone')
  })
})

describe('a request', () => {
  it('must be signed, for just this, and now', async () => {
    const { key, mountId } = one
    const target = (path: string): string => `/mounts/${mountId}/${path}`
    const signed = (path: string, now = Date.now(), method = 'GET'): string =>
      signRequest(key, { method, port, target: target(path) }, now)
    const port = Number(new URL(one.server.url).port)
    const file = 'download?path=/kinds/file'
    const wrong = [
      null,
      'Bearer x',
      signed('files?path=/kinds/file'),
      signed('download?path=%2Fkinds%2Ffile'),
      signed(file, Date.now() - 31_000),
      // Heard by somebody else, who had the port of an earlier mover.
      signRequest(key, { method: 'GET', port: port - 1, target: target(file) }, Date.now()),
    ]
    for (const authorization of wrong) {
      const { status, body } = await one.ask(file, { authorization })
      expect([status, (JSON.parse(body.toString()) as { code: string }).code]).toEqual([401, 'UNAUTHENTICATED'])
    }
    expect((await one.ask(file, { authorization: signed(file, Date.now(), 'HEAD') })).status).toBe(401)
    expect((await one.ask(file, { authorization: signed(file) })).status).toBe(200)
    expect((await one.ask('../other/files', { authorization: null })).status).toBe(401)
  })

  it('is an access of the mount, if it is one of ours', async () => {
    const before = one.noted.length
    await one.ask('files', { authorization: null })
    expect(one.noted).toHaveLength(before)
    await one.ask('files')
    await one.ask('download?path=/nothing')
    expect(one.noted.slice(before)).toEqual([one.mountId, one.mountId])
  })

  it('for a mount that is not open here says that it may be again', async () => {
    const served = await serveFiles([{ volume: volume('disk'), folder: root.path }])
    onTestFinished(() => served.close())
    await served.mounts.close(served.mountId)
    expect(await failure(served, 'files')).toMatchObject({
      status: 503,
      code: 'MOUNT_INTERRUPTED',
      details: { mount_id: served.mountId },
    })
    expect(served.noted).toEqual([])
  })
})
