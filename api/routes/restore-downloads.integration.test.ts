/** Downloads through the real file service, over real connections: what is sent, how fast, and what happens when one side goes away. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, open, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer, get } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { recordMoverEndpoint } from '../../db/queries/mover-endpoints.ts'
import { runTool } from '../../tools/run-tool.ts'
import { createTestApi } from '../../test/api-app.ts'
import type { TestApi } from '../../test/api-app.ts'
import { insertBackup, insertBackupDisk, insertRepository, insertVm } from '../../test/catalog-rows.ts'
import { serveFolders } from '../../test/mounted-folder.ts'
import type { MountedFolders } from '../../test/mounted-folder.ts'
import { createTemporaryFolder, temporaryFolder } from '../../test/temporary-folder.ts'

const MIB = 1024 * 1024
const BIG_MIB = 48
const NOISE_MIB = 48
const page = '<script>alert(1)</script>'

let api: TestApi
let url: string
let mover: MountedFolders
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let mount: string
let diskIndex = 1

beforeAll(async () => {
  folder = await createTemporaryFolder()
  await mkdir(join(folder.path, 'docs'))
  await writeFile(join(folder.path, 'docs/page.html'), page)
  await writeFile(join(folder.path, 'docs/ümlaut "1".txt'), 'text')
  await writeFile(join(folder.path, 'docs/empty'), '')
  await symlink('page.html', join(folder.path, 'docs/link'))
  await runTool('mkfifo', [join(folder.path, 'docs/pipe')], { timeoutMs: 10_000 })
  await mkdir(join(folder.path, 'large'))
  const big = await open(join(folder.path, 'large/big'), 'w')
  await big.truncate(BIG_MIB * MIB)
  await big.close()
  await mkdir(join(folder.path, 'noise'))
  // Too long for a compressor to see that it repeats.
  const block = randomBytes(MIB)
  await writeFile(join(folder.path, 'noise/noise'), Array<Buffer>(NOISE_MIB).fill(block))
  api = await createTestApi()
  await insertVm(api.catalog, 'ctx-web', 'web')
  await insertRepository(api.catalog, 'repo-1')
  await insertBackup(api.catalog, { id: 'backup-1', vm_context_id: 'ctx-web', repository_id: 'repo-1' })
  await insertBackupDisk(api.catalog, 'backup-1')
  mover = await serveFolders(api)
  mount = await mover.mount('backup-1', folder.path)
  url = await api.listen()
})
afterAll(async () => {
  await mover?.close()
  await api?.drop()
  await folder?.remove()
})
/** What a test asks has its name in the audit trail: the end of another's download may be noted late. */
let asker = ''
let askers = 0
beforeEach(() => {
  asker = `asker-${askers++}`
})

/** `what`: `download?path=…`. */
function ask(what: string, { method = 'GET', headers = {} }: { method?: string; headers?: Record<string, string> } = {}) {
  const authorization = api.authorizationOf('operator')
  return fetch(`${url}/restore/${mount}/${what}`, { method, headers: { authorization, 'x-request-id': asker, ...headers } })
}

/** Begins a request and reads nothing of the answer. */
async function begin(what: string, mountId = mount): Promise<IncomingMessage> {
  const headers = { authorization: api.authorizationOf('operator'), 'x-request-id': asker }
  const request = get(`${url}/restore/${mountId}/${what}`, { headers, agent: false })
  onTestFinished(() => void request.destroy())
  const [response] = await once(request, 'response')
  // What happens to it is for the test to see.
  response.on('error', () => undefined)
  return response
}

async function readAll(response: IncomingMessage): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const piece of response) {
    hash.update(piece)
    bytes += piece.length
  }
  return { bytes, sha256: hash.digest('hex') }
}

/** A mover of its own, that the test may end. */
async function ownMover(host?: string): Promise<{ mover: MountedFolders; mount: string }> {
  const index = diskIndex++
  const hostId = `host-${index}`
  await insertBackupDisk(api.catalog, 'backup-1', index)
  const own = await serveFolders(api, hostId, host)
  onTestFinished(() => own.close())
  return { mover: own, mount: await own.mount('backup-1', folder.path, { diskIndex: index }) }
}

const auditRows = () =>
  api.catalog
    .selectFrom('audit_events')
    .select(['action', 'details', 'remote_address'])
    .where('request_id', '=', asker)
    .orderBy('id')
    .execute()
const ends = async () => (await auditRows()).filter(({ action }) => action.endsWith('-ended')).map(({ details }) => details)
const common = { backup_id: 'backup-1', disk_index: 0 }

describe('a file', () => {
  test('comes whole, with its name and type, as something to keep and never to run', async () => {
    const response = await ask('download?path=/docs/page.html')
    expect([response.status, await response.text()]).toEqual([200, page])
    const names = ['content-type', 'content-length', 'content-disposition', 'accept-ranges', 'x-content-type-options'] as const
    expect(Object.fromEntries(names.map((name) => [name, response.headers.get(name)]))).toEqual({
      'content-type': 'text/html',
      'content-length': String(page.length),
      'content-disposition': `attachment; filename="page.html"; filename*=UTF-8''page.html`,
      'accept-ranges': 'bytes',
      'x-content-type-options': 'nosniff',
    })
    expect(response.headers.get('content-security-policy')).toBe("sandbox; default-src 'none'; frame-ancestors 'none'")
    expect([response.headers.get('cache-control'), response.headers.get('etag')]).toEqual(['no-store', expect.any(String)])
    expect(response.headers.get('x-request-id')).toBe(asker)
  })

  test('has its name in both forms, whatever it holds', async () => {
    const response = await ask(`download?path=${encodeURIComponent('/docs/ümlaut "1".txt')}`)
    expect(response.headers.get('content-disposition')).toContain("filename*=UTF-8''%C3%BCmlaut%20%221%22.txt")
    expect(await response.text()).toBe('text')
  })

  test('of nothing', async () => {
    const response = await ask('download?path=/docs/empty')
    expect([response.status, response.headers.get('content-length'), await response.text()]).toEqual([200, '0', ''])
  })

  test('HEAD gives the head alone, and is noted as a look', async () => {
    const response = await ask('download?path=/docs/page.html', { method: 'HEAD' })
    expect([response.status, response.headers.get('content-length'), await response.text()]).toEqual([
      200,
      String(page.length),
      '',
    ])
    expect(await auditRows()).toEqual([
      { action: 'file.look', details: { ...common, path: '/docs/page.html' }, remote_address: '127.0.0.1' },
    ])
  })

  test.each([
    ['bytes=0-7', 'bytes 0-7/25', page.slice(0, 8)],
    ['bytes=8-', 'bytes 8-24/25', page.slice(8)],
    ['bytes=-9', 'bytes 16-24/25', page.slice(-9)],
  ])('in part: %s', async (range, contentRange, text) => {
    const response = await ask('download?path=/docs/page.html', { headers: { Range: range } })
    const { headers, status } = response
    expect([status, headers.get('content-range'), headers.get('content-length'), await response.text()]).toEqual([
      206,
      contentRange,
      String(text.length),
      text,
    ])
  })

  test('a part behind its end: RANGE_NOT_SATISFIABLE, with its size', async () => {
    const response = await ask('download?path=/docs/page.html', { headers: { Range: 'bytes=25-' } })
    expect([response.status, response.headers.get('content-range')]).toEqual([416, 'bytes */25'])
    expect(await response.json()).toMatchObject({ success: false, error_code: 'RANGE_NOT_SATISFIABLE', size_bytes: 25 })
  })

  test('the client has already is not sent again', async () => {
    const first = await ask('download?path=/docs/page.html')
    await first.text()
    const etag = first.headers.get('etag') ?? ''
    const again = await ask('download?path=/docs/page.html', { headers: { 'If-None-Match': etag } })
    expect([again.status, await again.text(), again.headers.get('etag')]).toEqual([304, '', etag])
    const continued = { Range: 'bytes=8-', 'If-Range': etag }
    expect((await ask('download?path=/docs/page.html', { headers: continued })).status).toBe(206)
    const changed = { Range: 'bytes=8-', 'If-Range': '"another"' }
    expect((await ask('download?path=/docs/page.html', { headers: changed })).status).toBe(200)
  })

  test.each([
    ['a folder', '/docs', 409, 'NOT_A_FILE'],
    ['a link', '/docs/link', 409, 'NOT_A_FILE'],
    ['a named pipe, which would never end', '/docs/pipe', 409, 'NOT_A_FILE'],
    ['what is not there', '/docs/nothing', 404, 'FILE_NOT_FOUND'],
    ['something below a file', '/docs/page.html/x', 409, 'NOT_A_DIRECTORY'],
  ])('%s is refused, which is noted', async (_what, path, status, code) => {
    const response = await ask(`download?path=${path}`)
    expect([response.status, await response.json()]).toMatchObject([status, { success: false, error_code: code }])
    const head = await ask(`download?path=${path}`, { method: 'HEAD' })
    expect(head.status).toBe(status)
    await expect.poll(ends).toEqual([{ ...common, path, outcome: 'refused', bytes: 0, error_code: code }])
  })

  test('is in the audit trail with its part, and with how it came out', async () => {
    await (await ask('download?path=/docs/page.html', { headers: { Range: 'bytes=0-7' } })).text()
    const details = { ...common, path: '/docs/page.html', range: 'bytes=0-7' }
    await expect.poll(auditRows).toEqual([
      { action: 'file.download', details, remote_address: '127.0.0.1' },
      { action: 'file.download-ended', details: { ...details, outcome: 'completed', bytes: 8 }, remote_address: '127.0.0.1' },
    ])
  })

  test('of many megabytes arrives byte for byte', async () => {
    const { bytes, sha256 } = await readAll(await begin('download?path=/large/big'))
    const zeros = createHash('sha256')
    for (let mib = 0; mib < BIG_MIB; mib++) zeros.update(Buffer.alloc(MIB))
    expect([bytes, sha256]).toEqual([BIG_MIB * MIB, zeros.digest('hex')])
  })
})

describe('a folder', () => {
  test('comes as a zip with everything in it', async () => {
    const response = await ask('download-directory?path=/docs')
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/zip'])
    expect(response.headers.get('content-disposition')).toContain('filename="docs.zip"')
    const archive = join(await temporaryFolder(), 'docs.zip')
    await writeFile(archive, Buffer.from(await response.arrayBuffer()))
    const check =
      'import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print("\\n".join(z.namelist()))'
    const { stdout } = await runTool('python3', ['-c', check, archive], { timeoutMs: 60_000 })
    expect(stdout.split('\n')).toEqual(
      expect.arrayContaining([expect.stringMatching(/page\.html$/), expect.stringMatching(/_errors\.txt$/)]),
    )
    const details = { ...common, path: '/docs', format: 'zip' }
    const { size: bytes } = await stat(archive)
    await expect.poll(auditRows).toMatchObject([
      { action: 'file.download-directory', details },
      { action: 'file.download-directory-ended', details: { ...details, outcome: 'completed', bytes } },
    ])
  })

  test('comes as tar.gz when asked for', async () => {
    const response = await ask('download-directory?path=/docs&format=tar.gz')
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/gzip'])
    const place = await temporaryFolder()
    await writeFile(join(place, 'docs.tar.gz'), Buffer.from(await response.arrayBuffer()))
    await runTool('tar', ['-xzf', 'docs.tar.gz', '--exclude=*pipe'], { cwd: place, timeoutMs: 60_000 })
    const { stdout } = await runTool('find', [place, '-name', 'page.html'], { timeoutMs: 10_000 })
    expect(await readFile(stdout.trim(), 'utf8')).toBe(page)
  })

  test('HEAD makes no archive', async () => {
    const response = await ask('download-directory?path=/large', { method: 'HEAD' })
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'application/zip'])
    expect(mover.counts.open).toBe(0)
  })

  test.each([
    ['format=rar', 400, 'INVALID_REQUEST'],
    ['path=/docs/page.html', 409, 'NOT_A_DIRECTORY'],
    ['path=/nothing', 404, 'FILE_NOT_FOUND'],
  ])('refuses %s', async (query, status, code) => {
    const response = await ask(`download-directory?${query.startsWith('path') ? '' : 'path=/docs&'}${query}`)
    expect([response.status, await response.json()]).toMatchObject([status, { error_code: code }])
  })
})

/** Reads of the mover until they stand still. */
async function whenStill(counts: MountedFolders['counts']): Promise<number> {
  let before = -1
  await expect
    .poll(
      () => {
        const still = counts.bytes > 0 && counts.bytes === before
        before = counts.bytes
        return still
      },
      { interval: 500 },
    )
    .toBe(true)
  return counts.bytes
}

describe('a client', () => {
  test('that takes nothing makes the mover stop reading, and can go on later', async () => {
    const own = await ownMover()
    const response = await begin('download?path=/large/big', own.mount)
    expect(await whenStill(own.mover.counts)).toBeLessThan((BIG_MIB / 2) * MIB)
    expect((await readAll(response)).bytes).toBe(BIG_MIB * MIB)
  })

  test.each(['download?path=/large/big', 'download-directory?path=/large'])(
    'that goes away ends the reading at once: %s',
    async (what) => {
      const own = await ownMover()
      const response = await begin(what, own.mount)
      await once(response, 'data')
      await expect.poll(() => own.mover.counts.open).toBe(1)
      response.destroy()
      await expect.poll(() => own.mover.counts.open, { timeout: 5_000 }).toBe(0)
      expect(own.mover.counts.bytes).toBeLessThan(BIG_MIB * MIB)
      await expect.poll(ends).toMatchObject([{ outcome: 'client-gone' }])
    },
  )

  test('that goes away before the answer ends the request too', async () => {
    const aborted = new AbortController()
    const authorization = api.authorizationOf('operator')
    const asked = fetch(`${url}/restore/${mount}/search?path=/&name=nothing-like-this`, {
      headers: { authorization },
      signal: aborted.signal,
    })
    aborted.abort()
    await expect(asked).rejects.toThrow('aborted')
    await expect.poll(() => mover.counts.open).toBe(0)
  })
})

describe('a mover', () => {
  test.each([
    ['with a length', 'download?path=/large/big'],
    ['in chunks', 'download-directory?path=/large&format=zip'],
  ])('that dies in the middle breaks the download %s within seconds', async (_what, what) => {
    const own = await ownMover()
    const response = await begin(what, own.mount)
    await once(response, 'data')
    response.pause()
    await own.mover.server.close()
    const began = performance.now()
    await expect(readAll(response)).rejects.toThrow(/aborted|ECONNRESET|premature/i)
    expect(performance.now() - began).toBeLessThan(5_000)
    expect(response.complete).toBe(false)
    await expect.poll(ends).toMatchObject([{ outcome: 'broken' }])
  })

  test('that dies while the client is slow breaks it too, and adds no words of ours', async () => {
    const own = await ownMover()
    const response = await begin('download-directory?path=/noise&format=tar.gz', own.mount)
    await once(response, 'data')
    response.pause()
    await whenStill(own.mover.counts)
    await own.mover.server.close()
    const pieces: Buffer[] = []
    response.on('data', (piece: Buffer) => pieces.push(piece)).resume()
    await expect(finished(response)).rejects.toThrow(/aborted|premature/i)
    expect(response.complete).toBe(false)
    expect(Buffer.concat(pieces.slice(-1)).toString('latin1')).not.toContain('Error')
    await expect.poll(ends).toMatchObject([{ outcome: 'broken' }])
  })

  test('that is gone: MOVER_UNAVAILABLE, and one that comes back elsewhere is found', async () => {
    const own = await ownMover()
    await own.mover.server.close()
    const path = `/restore/${own.mount}/files?path=/`
    const gone = await api.call('GET', path)
    expect([gone.status, gone.body.error_code]).toEqual([503, 'MOVER_UNAVAILABLE'])
    const row = await api.catalog
      .selectFrom('restore_mounts')
      .select('host_id')
      .where('id', '=', own.mount)
      .executeTakeFirstOrThrow()
    await recordMoverEndpoint(api.catalog, {
      hostId: row.host_id,
      filesUrl: mover.server.url,
      certificate: null,
      instanceId: 'next',
    })
    const back = await api.call('GET', path)
    expect([back.status, back.body.error_code]).toEqual([503, 'MOUNT_INTERRUPTED'])
  })

  test('on another host is asked over TLS, and only with the certificate that it published', async () => {
    const own = await ownMover('0.0.0.0')
    expect(own.mover.server.url).toMatch(/^https:/)
    const path = `/restore/${own.mount}/download?path=/docs/page.html`
    const response = await api.raw('GET', path)
    expect([response.status, await response.text()]).toEqual([200, page])
    const another = await serveFolders(api, 'host-with-another-certificate', '0.0.0.0')
    onTestFinished(() => another.close())
    const { certificate } = another.server
    await api.catalog.updateTable('mover_endpoints').set({ certificate }).where('files_url', '=', own.mover.server.url).execute()
    const { status, body } = await api.call('GET', path)
    expect([status, body.error_code]).toEqual([503, 'MOVER_UNAVAILABLE'])
  })

  test('that was killed, and its port taken by another program: nothing of what that says is passed on, and what it heard opens nothing', async () => {
    const own = await ownMover()
    const heard: { url: string; authorization: string }[] = []
    const impostor = createServer((request, response) => {
      heard.push({ url: request.url ?? '', authorization: request.headers.authorization ?? '' })
      response
        .writeHead(heard.length === 1 ? 200 : 409, { 'holdfast-signature': '0'.repeat(64) })
        .end('{"code":"NOT_A_FILE","message":"evil"}')
    }).listen(0, '127.0.0.1')
    onTestFinished(() => void impostor.close())
    await once(impostor, 'listening')
    const { port } = impostor.address() as AddressInfo
    await api.catalog
      .updateTable('mover_endpoints')
      .set({ files_url: `http://127.0.0.1:${port}` })
      .where('files_url', '=', own.mover.server.url)
      .execute()
    for (let time = 0; time < 2; time++) {
      const { status, body } = await api.call('GET', `/restore/${own.mount}/download?path=/docs/page.html`)
      expect([status, body.error_code, JSON.stringify(body)]).toEqual([
        503,
        'MOVER_UNAVAILABLE',
        expect.not.stringContaining('evil'),
      ])
    }
    expect(heard).toHaveLength(2)
    const replayed = await fetch(`${own.mover.server.url}${heard[0]!.url}`, {
      headers: { authorization: heard[0]!.authorization },
    })
    expect([replayed.status, await replayed.json()]).toMatchObject([401, { code: 'UNAUTHENTICATED' }])
  })

  test('that does not know our key: MOVER_UNAVAILABLE, never the session of the user', async () => {
    const stranger = await createTestApi()
    onTestFinished(() => stranger.drop())
    const theirs = await serveFolders(stranger)
    onTestFinished(() => theirs.close())
    const own = await ownMover()
    await api.catalog
      .updateTable('mover_endpoints')
      .set({ files_url: theirs.server.url })
      .where('files_url', '=', own.mover.server.url)
      .execute()
    const { status, body } = await api.call('GET', `/restore/${own.mount}/files?path=/`)
    expect([status, body.error_code]).toEqual([503, 'MOVER_UNAVAILABLE'])
  })
})
