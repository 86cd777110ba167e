import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { link, mkdir, readdir, readFile, readlink, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { failBeyond } from '../test/failing-file.ts'
import { requireTool } from '../test/requires.ts'
import { serveFiles, volume } from '../test/served-files.ts'
import type { ServedFiles } from '../test/served-files.ts'
import { createTemporaryFolder, temporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'

for (const program of ['python3', 'nbdfuse', 'nbdkit', 'fusermount3']) requireTool(program)

const MIB = 1024 * 1024
const MANY = 3_000
const LONG = 'n'.repeat(200)

interface Unpacked {
  name: string
  type: 'file' | 'directory' | 'symlink'
  mode: number
  sizeBytes: number
  sha256: string | null
  target: string | null
  mtime: number
}

/** Another program's opinion: it checks what the archive says about itself, and tells what is in it. */
const unpack = {
  zip: `
import sys, json, zipfile, hashlib, stat, calendar
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
def kind(mode): return 'directory' if stat.S_ISDIR(mode) else 'symlink' if stat.S_ISLNK(mode) else 'file'
def tell(i):
    mode = i.external_attr >> 16
    data = z.read(i)
    k = kind(mode)
    return dict(name=i.filename, type=k, mode=mode & 0o7777, sizeBytes=i.file_size if k == 'file' else 0, sha256=hashlib.sha256(data).hexdigest() if k == 'file' else None,
      target=data.decode() if k == 'symlink' else None, mtime=calendar.timegm(i.date_time))
print(json.dumps([tell(i) for i in z.infolist()]))`,
  'tar.gz': `
import sys, json, tarfile, hashlib
t = tarfile.open(sys.argv[1], 'r:gz')
def tell(i):
    return dict(name=i.name + ('/' if i.isdir() else ''), type='directory' if i.isdir() else 'symlink' if i.issym() else 'file', mode=i.mode, sizeBytes=i.size,
      sha256=hashlib.sha256(t.extractfile(i).read()).hexdigest() if i.isreg() else None, target=i.linkname if i.issym() else None, mtime=float(i.pax_headers['mtime']))
print(json.dumps([tell(i) for i in t]))`,
}

let root: { path: string; remove(): Promise<void> }
let served: ServedFiles

beforeAll(async () => {
  root = await createTemporaryFolder()
  const top = join(root.path, 'top')
  await mkdir(join(top, 'folder/empty'), { recursive: true })
  await mkdir(join(root.path, 'many'))
  for (let number = 0; number < MANY; number++) await writeFile(join(root.path, `many/${number}`), `content of ${number}`)
  await writeFile(join(top, 'folder/script'), 'x'.repeat(300_000), { mode: 0o755 })
  await link(join(top, 'folder/script'), join(top, 'folder/hard'))
  await writeFile(join(top, 'big.bin'), Buffer.alloc(5 * MIB + 7, 'abcdefg'))
  await writeFile(join(top, 'photo.JPG'), Buffer.alloc(3 * MIB, 1))
  await writeFile(join(top, 'empty'), '')
  await writeFile(join(top, `${LONG}-ä`), 'long')
  await writeFile(join(top, 'line\nbreak'), 'odd')
  await writeFile(join(top, '..\\..\\evil'), 'odd')
  await symlink('/etc/shadow', join(top, 'secret'))
  await symlink('folder/../..', join(top, 'around'))
  await runTool('mkfifo', [join(top, 'pipe')], { timeoutMs: 10_000 })
  await utimes(join(top, 'empty'), 1_600_000_001, 1_600_000_001.5)
  await utimes(join(top, 'folder'), 5_000_000_000, 5_000_000_000)
  served = await serveFiles([{ volume: volume('disk'), folder: root.path }])
})

afterAll(async () => {
  await served.close()
  await root.remove()
})

async function download(from: ServedFiles, path: string, format: keyof typeof unpack): Promise<string> {
  const answer = await from.open(`download-directory?path=${encodeURIComponent(path)}&format=${format}`)
  expect(answer.statusCode).toBe(200)
  const file = join(await temporaryFolder(), `archive.${format}`)
  await pipeline(answer, createWriteStream(file))
  return file
}

async function entriesOf(from: ServedFiles, path: string, format: keyof typeof unpack): Promise<Map<string, Unpacked>> {
  const file = await download(from, path, format)
  const { stdout } = await runTool('python3', ['-c', unpack[format], file], { timeoutMs: 60_000 })
  const entries = JSON.parse(stdout) as Unpacked[]
  const byName = new Map(entries.map((entry) => [entry.name, entry]))
  expect(byName.size).toBe(entries.length)
  return byName
}

/** Another program's content of an entry, as text. */
async function textOf(file: string, name: string, format: keyof typeof unpack): Promise<string> {
  const folder = await temporaryFolder()
  if (format === 'zip') await runTool('python3', ['-m', 'zipfile', '-e', file, folder], { timeoutMs: 60_000 })
  else await runTool('tar', ['-xzf', file, '-C', folder], { timeoutMs: 60_000 })
  return readFile(join(folder, name), 'utf8')
}

const sha256 = async (path: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(path))
    .digest('hex')

describe.each(['zip', 'tar.gz'] as const)('a folder as %s', (format) => {
  it('holds everything as it is, and leads nowhere else', async () => {
    const entries = await entriesOf(served, '/top', format)
    const evil = format === 'zip' ? '..\uf05c..\uf05cevil' : '..\\..\\evil'
    const files = ['big.bin', 'photo.JPG', 'empty', `${LONG}-ä`, 'line\nbreak', 'folder/script', 'folder/hard']
    const expected = ['', 'folder/', 'folder/empty/', ...files, evil, 'secret', 'around', '_errors.txt'].map(
      (name) => `top/${name}`,
    )
    expect([...entries.keys()].toSorted()).toEqual(expected.toSorted())
    for (const name of files) {
      const path = join(root.path, 'top', name)
      const { size } = await stat(path)
      expect(entries.get(`top/${name}`)).toMatchObject({ type: 'file', sizeBytes: size, sha256: await sha256(path) })
    }
    expect(entries.get('top/secret')).toMatchObject({ type: 'symlink', target: '/etc/shadow' })
    expect(entries.get('top/around')).toMatchObject({ type: 'symlink', target: 'folder/../..' })
    expect(entries.get('top/folder/script')).toMatchObject({ mode: 0o755 })
    expect(entries.get('top/folder/')).toMatchObject({ type: 'directory', mode: 0o755 })
    expect([...entries.keys()].at(-1)).toBe('top/_errors.txt')
  })

  it('has times as near as its format comes', async () => {
    const entries = await entriesOf(served, '/top', format)
    const exact = format === 'tar.gz'
    expect(entries.get('top/empty')?.mtime).toBe(exact ? 1_600_000_001.5 : 1_600_000_000)
    expect(entries.get('top/folder/')?.mtime).toBe(exact ? 5_000_000_000 : Date.UTC(2038, 0, 19, 3, 14, 6) / 1_000)
  })

  it('names what it could not hold, and only then', async () => {
    const file = await download(served, '/top', format)
    expect(await textOf(file, 'top/_errors.txt', format)).toContain('"/top/pipe": left out: it is a fifo')
    expect([...(await entriesOf(served, '/top/folder', format)).keys()]).not.toContain('folder/_errors.txt')
  })

  it('takes thousands of files', async () => {
    const entries = await entriesOf(served, '/many', format)
    expect(entries.size).toBe(MANY + 1)
    expect(entries.get('many/2999')?.sizeBytes).toBe(15)
  })

  it('of the root has a name of its own, and volumes for folders', async () => {
    const several = await serveFiles([
      { volume: volume('a'), folder: join(root.path, 'top/folder') },
      { volume: volume('b'), folder: join(root.path, 'top/folder/empty') },
      { volume: volume('c', { state: 'encrypted', fileSystem: 'crypto_LUKS' }), folder: null },
    ])
    onTestFinished(() => several.close())
    const answer = await several.ask('download-directory?path=/&format=' + format, { method: 'HEAD' })
    expect(answer.headers).toMatchObject({
      'content-type': format === 'zip' ? 'application/zip' : 'application/gzip',
      'content-disposition': `attachment; filename="files.${format}"; filename*=UTF-8''files.${format}`,
    })
    const file = await download(several, '/', format)
    expect(await textOf(file, 'files/_errors.txt', format)).toContain('"/c": left out: it is encrypted (crypto_LUKS).')
    expect(await textOf(file, 'files/a/hard', format)).toHaveLength(300_000)
  })

  it('goes on behind what cannot be read, and says what that was', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'x'))
    const content = Buffer.alloc(5 * MIB + 100, 'A')
    for (const name of ['a-middle', 'b-start', 'c-gone', 'd-good', '_errors.txt'])
      await writeFile(join(folder, 'x', name), content)
    await failBeyond(join(folder, 'x/a-middle'), 3 * MIB)
    await failBeyond(join(folder, 'x/b-start'), 0)
    const damaged = await serveFiles([{ volume: volume('disk'), folder }])
    onTestFinished(() => damaged.close())
    // Its name is known by now.
    await damaged.ask('files?path=/x')
    await rm(join(folder, 'x/c-gone'))
    const file = await download(damaged, '/x', format)
    const report = await textOf(file, 'x/_errors-1.txt', format)
    expect(report).toContain(`"/x/a-middle": damaged after ${3 * MIB} of ${content.length} bytes`)
    expect(report).toContain('"/x/b-start": left out: "x/b-start" cannot be read')
    expect(report).toContain('"/x/c-gone": left out:')
    expect(report.trim().split('\n')).toHaveLength(5)
    expect(await textOf(file, 'x/d-good', format)).toBe(content.toString())
    expect(await textOf(file, 'x/_errors.txt', format)).toBe(content.toString())
    const middle = await textOf(file, 'x/a-middle', format)
    expect(middle).toBe('A'.repeat(3 * MIB) + (format === 'zip' ? '' : '\0'.repeat(2 * MIB + 100)))
  })

  it('is broken off when the mount goes away, and when nobody takes it', async () => {
    const short = await serveFiles([{ volume: volume('disk'), folder: root.path }])
    onTestFinished(() => short.close())
    const answer = await short.open(`download-directory?path=/&format=${format}`)
    await expect.poll(() => answer.read(), { interval: 1 }).not.toBeNull()
    await short.mounts.close(short.mountId)
    await expect(buffer(answer)).rejects.toThrow('aborted')
    const left = await served.open(`download-directory?path=/&format=${format}`)
    left.destroy()
    await expect.poll(openFiles, { interval: 10 }).toEqual([])
  })
})

async function openFiles(): Promise<string[]> {
  const names = await readdir('/proc/self/fd')
  const paths = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')))
  return paths.filter((path) => path.startsWith(`${root.path}/top/`) && /(bin|JPG|script|hard)$/.test(path))
}
