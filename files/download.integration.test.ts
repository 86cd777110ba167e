import { createHash, randomBytes } from 'node:crypto'
import { readdir, readlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { failBeyond } from '../test/failing-file.ts'
import { requireTool } from '../test/requires.ts'
import { serveFiles, volume } from '../test/served-files.ts'
import type { ServedFiles } from '../test/served-files.ts'
import { createTemporaryFolder, temporaryFolder } from '../test/temporary-folder.ts'

const MIB = 1024 * 1024
const SIZE = 5 * MIB + 1_234

let root: { path: string; remove(): Promise<void> }
let served: ServedFiles
const content = randomBytes(SIZE)

beforeAll(async () => {
  root = await createTemporaryFolder()
  await writeFile(join(root.path, 'data.bin'), content)
  await writeFile(join(root.path, 'Größe.json'), '{}')
  await writeFile(join(root.path, 'empty.tar.gz'), '')
  await writeFile(join(root.path, 'page.html'), '<script>alert(1)</script>')
  await writeFile(join(root.path, 'sparse'), '')
  await truncate(join(root.path, 'sparse'), 2 * 1024 * MIB)
  served = await serveFiles([{ volume: volume('disk'), folder: root.path }])
})

afterAll(async () => {
  await served.close()
  await root.remove()
})

const sparse = (): string => join(root.path, 'sparse')
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** How many descriptors of this process are on a file. */
async function openOn(file: string): Promise<number> {
  const names = await readdir('/proc/self/fd')
  const paths = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')))
  return paths.filter((path) => path === file).length
}

describe('a file', () => {
  it('arrives as it is, with all that a browser should know', async () => {
    const { status, headers, body } = await served.ask('download?path=%2Fdata.bin')
    expect(status).toBe(200)
    expect(sha256(body)).toBe(sha256(content))
    expect(headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': String(SIZE),
      'content-disposition': 'attachment; filename="data.bin"; filename*=UTF-8\'\'data.bin',
      'accept-ranges': 'bytes',
      'x-content-type-options': 'nosniff',
      etag: expect.stringMatching(/^"[^"]+"$/),
      'last-modified': expect.stringMatching(/GMT$/),
    })
  })

  it.each([
    ['/Größe.json', 'application/json', 2],
    ['/empty.tar.gz', 'application/gzip', 0],
    ['/page.html', 'text/html', 25],
  ])('%s is told by its name, and only kept', async (path, type, length) => {
    const { headers, body } = await served.ask(`download?path=${encodeURIComponent(path)}`)
    expect(headers).toMatchObject({ 'content-type': type, 'content-length': String(length), 'x-content-type-options': 'nosniff' })
    expect(headers['content-disposition']).toContain(`filename*=UTF-8''${encodeURIComponent(path.slice(1))}`)
    expect(body).toHaveLength(length)
  })

  it.each([
    ['bytes=0-0', 0, 1],
    ['bytes=1048570-1048580', 1_048_570, 1_048_581],
    ['bytes=2000000-', 2_000_000, SIZE],
    ['bytes=-1000', SIZE - 1_000, SIZE],
    [`bytes=${SIZE - 1}-${SIZE + 500}`, SIZE - 1, SIZE],
  ])('comes in parts: %s', async (range, from, to) => {
    const { status, headers, body } = await served.ask('download?path=/data.bin', { headers: { range } })
    expect(status).toBe(206)
    expect(headers).toMatchObject({ 'content-range': `bytes ${from}-${to - 1}/${SIZE}`, 'content-length': String(to - from) })
    expect(body.equals(content.subarray(from, to))).toBe(true)
  })

  it('is not behind its end', async () => {
    const { status, headers, body } = await served.ask('download?path=/data.bin', { headers: { range: `bytes=${SIZE}-` } })
    expect([status, headers['content-range']]).toEqual([416, `bytes */${SIZE}`])
    expect(JSON.parse(body.toString())).toMatchObject({ code: 'RANGE_NOT_SATISFIABLE', details: { size_bytes: SIZE } })
  })

  it('is sent whole for several parts at once, and to who has another one', async () => {
    for (const headers of [{ range: 'bytes=0-1,5-6' }, { range: 'bytes=1-2', 'if-range': '"other"' }] as Record<
      string,
      string
    >[]) {
      const answer = await served.ask('download?path=/data.bin', { headers })
      expect([answer.status, answer.body.length]).toEqual([200, SIZE])
    }
  })

  it('goes on where it was broken off, and is not sent again to who has it', async () => {
    const { headers } = await served.ask('download?path=/data.bin', { method: 'HEAD' })
    const { etag = '' } = headers
    const rest = await served.ask('download?path=/data.bin', { headers: { range: 'bytes=5242880-', 'if-range': etag } })
    expect([rest.status, rest.body.length]).toEqual([206, 1_234])
    const same = await served.ask('download?path=/data.bin', { headers: { 'if-none-match': etag } })
    expect([same.status, same.body.length, same.headers.etag]).toEqual([304, 0, etag])
  })

  it('is asked about by HEAD, which reads nothing', async () => {
    const { status, headers, body } = await served.ask('download?path=/data.bin', {
      method: 'HEAD',
      headers: { range: 'bytes=0-1' },
    })
    expect([status, headers['content-length'], body.length]).toEqual([200, String(SIZE), 0])
  })
})

describe('a client', () => {
  it('that goes away ends the reading at once', async () => {
    const answer = await served.open('download?path=/sparse')
    await expect.poll(() => answer.read(), { interval: 1 }).not.toBeNull()
    expect(await openOn(sparse())).toBe(1)
    answer.destroy()
    const left = performance.now()
    await expect.poll(() => openOn(sparse()), { interval: 10 }).toBe(0)
    expect(performance.now() - left).toBeLessThan(1_000)
  })

  it('that takes little is not read ahead for', async () => {
    const answer = await served.open('download?path=/sparse')
    onTestFinished(() => void answer.destroy())
    const before = process.memoryUsage()
    let highest = 0
    for (let taken = 0; taken < 20; taken++) {
      answer.read(64 * 1024)
      await delay(50)
      const { external, heapUsed } = process.memoryUsage()
      highest = Math.max(highest, external + heapUsed - before.external - before.heapUsed)
    }
    expect(answer.readableEnded).toBe(false)
    // The reader's pieces, the socket's and the client's own; 2 GiB if anything read on.
    expect(highest).toBeLessThan(48 * MIB)
  })

  it('that takes nothing any more is left', async () => {
    const impatient = await serveFiles([{ volume: volume('disk'), folder: root.path }], { stalledMs: 500 })
    onTestFinished(() => impatient.close())
    const answer = await impatient.open('download?path=/sparse')
    onTestFinished(() => void answer.destroy())
    expect(await openOn(sparse())).toBe(1)
    await expect.poll(() => openOn(sparse()), { interval: 50 }).toBe(0)
    // What lies in the socket still arrives; then the connection is broken.
    await expect(buffer(answer)).rejects.toThrow('aborted')
  })

  it('hears at once when there are too many', async () => {
    const few = await serveFiles([{ volume: volume('disk'), folder: root.path }], { streamsPerMount: 2 })
    onTestFinished(() => few.close())
    const running = await Promise.all([few.open('download?path=/sparse'), few.open('download?path=/sparse')])
    const refused = await few.ask('download?path=/data.bin')
    expect([refused.status, JSON.parse(refused.body.toString())]).toMatchObject([503, { code: 'MOUNT_NOT_READY' }])
    expect((await few.ask('files')).status).toBe(200)
    for (const answer of running) answer.destroy()
    await expect.poll(async () => (await few.ask('download?path=/data.bin')).status).toBe(200)
  })

  it('keeps the mount in use as long as it takes', async () => {
    let now = Date.now()
    const later = await serveFiles([{ volume: volume('disk'), folder: root.path }], { now: () => new Date(now) })
    onTestFinished(() => later.close())
    const answer = await later.open('download?path=/sparse')
    onTestFinished(() => void answer.destroy())
    expect(later.noted).toHaveLength(1)
    now += 6_000
    await expect.poll(() => (answer.read(), later.noted.length), { interval: 1 }).toBe(2)
    for (let taken = 0; taken < 20; taken++) {
      answer.read()
      await delay(1)
    }
    expect(later.noted).toHaveLength(2)
    now += 6_000
    await expect.poll(() => (answer.read(), later.noted.length), { interval: 1 }).toBe(3)
  })
})

describe('a transfer that cannot be finished', () => {
  it('is broken when the mount goes away', async () => {
    const short = await serveFiles([{ volume: volume('disk'), folder: root.path }])
    onTestFinished(() => short.close())
    const answer = await short.open('download?path=/sparse')
    answer.once('data', () => void short.mounts.close(short.mountId))
    await expect(buffer(answer)).rejects.toThrow('aborted')
  })

  describe('because of the disk', () => {
    for (const program of ['nbdfuse', 'nbdkit', 'fusermount3']) requireTool(program)

    it('is broken, and says so before the first byte if it can', async () => {
      const folder = await temporaryFolder()
      for (const name of ['middle', 'start']) await writeFile(join(folder, name), content)
      await failBeyond(join(folder, 'middle'), 3 * MIB)
      await failBeyond(join(folder, 'start'), 0)
      const damaged = await serveFiles([{ volume: volume('disk'), folder }])
      onTestFinished(() => damaged.close())
      const answer = await damaged.open('download?path=/middle')
      expect([answer.statusCode, answer.headers['content-length']]).toEqual([200, String(SIZE)])
      const got: Buffer[] = []
      answer.on('data', (piece: Buffer) => got.push(piece))
      await expect(buffer(answer)).rejects.toThrow('aborted')
      expect(Buffer.concat(got).equals(content.subarray(0, 3 * MIB))).toBe(true)
      const refused = await damaged.ask('download?path=/start')
      expect([refused.status, JSON.parse(refused.body.toString())]).toMatchObject([502, { code: 'FILE_READ_FAILED' }])
      expect((await damaged.ask('files')).status).toBe(200)
    })
  })
})
