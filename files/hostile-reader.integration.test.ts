/** Trees that no honest disk has, from a reader that says whatever it likes: nothing may grow without bounds, and one bad place costs no others. */
import { buffer } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import type { Entry, FileReader, FileStatus } from '../mounts/file-reader.ts'
import { failureOf } from '../test/failure.ts'
import { volume } from '../test/served-files.ts'
import { runTool } from '../tools/run-tool.ts'
import { archiveFolder } from './archive.ts'
import { estimateFolder } from './estimate.ts'
import { walkFolder } from './folder-walk.ts'
import { listFolder } from './listing.ts'
import { MountTree } from './mount-tree.ts'

const never = new AbortController().signal

const status = (kind: FileStatus['kind'], more: Partial<FileStatus> = {}): FileStatus => ({
  kind,
  mode: 0o644,
  uid: 0,
  gid: 0,
  sizeBytes: 0,
  inode: 1,
  links: 1,
  modifiedSeconds: 0,
  modifiedNanoseconds: 0,
  target: null,
  ...more,
})
const entry = (name: string, kind: FileStatus['kind'], more: Partial<FileStatus> = {}): Entry => ({
  name,
  status: status(kind, more),
  problem: null,
})

/** `inside`: what the folder at this path of the volume holds. */
function treeOf(inside: (path: string) => Entry[]): MountTree {
  const reader: FileReader = {
    volumes: [volume('disk')],
    failed: new Promise(() => undefined),
    list: (_volume, path, { first, most }) => {
      const all = inside(path)
      return Promise.resolve({ total: all.length, entries: all.slice(first, first + most) })
    },
    status: () => Promise.resolve(status('directory')),
    async *read(_volume, _path, { length }) {
      yield await Promise.resolve(Buffer.alloc(length, 'x'))
    },
    close: () => Promise.resolve(),
  }
  return new MountTree(reader)
}

const depthOf = (path: string): number => path.split('/').length

describe('a tree whose paths are longer than may be asked for', () => {
  it('is an archive of all that can be named, and tells of the rest', async () => {
    const tree = treeOf((path) => [
      entry('f', 'file', { sizeBytes: 3 }),
      ...(depthOf(path) < 150 ? [entry('d'.repeat(255), 'directory')] : []),
    ])
    const archive = await buffer(Readable.from(archiveFolder(tree, '/', 'tar.gz', never)))
    const read = `
import sys, tarfile, io
t = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), mode='r:gz')
names = [m.name for m in t]
print(len([n for n in names if n.endswith('/f')]), t.extractfile('files/_errors.txt').read().decode()[-400:])`
    const { stdout } = await runTool('python3', ['-c', read], { timeoutMs: 60_000, input: archive })
    // 128 names of that length are a path that may be asked for.
    expect(stdout).toMatch(/^128 /)
    expect(stdout).toContain('longer than')
  })
})

describe('folders that lie in themselves', () => {
  const loops = treeOf(() => Array.from({ length: 50 }, (_, number) => entry(`loop-${number}`, 'directory')))

  it('are opened while there are not too many to remember', async () => {
    let deepest = 0
    let [unread, left] = [0, 20_000]
    for await (const step of walkFolder(loops, '/', never, 500)) {
      deepest = Math.max(deepest, depthOf(step.path))
      if (step.type === 'unread') unread++
      if (--left === 0) break
    }
    expect(unread).toBeGreaterThan(0)
    // 49 wait on each level.
    expect(deepest).toBeLessThan(25)
  })

  it('are counted only so far', async () => {
    const counted = await estimateFolder(loops, '/', never, { timeMs: 60_000, entries: 20_000 })
    expect(counted).toMatchObject({ complete: false, folders: 20_000 })
  })
})

describe('very long paths', () => {
  const folder = Array.from({ length: 120 }, () => 'n'.repeat(255)).join('/')

  it('come in pages of fewer entries', async () => {
    const tree = treeOf(() => Array.from({ length: 1_000 }, (_, number) => entry(`${number}`, 'file')))
    const page = await listFolder(tree, `/${folder}`, { first: 0, most: 1_000 })
    expect(page.total).toBe(1_000)
    expect(page.files.length).toBeGreaterThan(100)
    expect(JSON.stringify(page).length).toBeLessThan(10 * 1024 * 1024)
  })

  it('make no list of problems that is as long as all of them', async () => {
    const pipes = Array.from({ length: 2_000 }, (_, number) => entry(`${number}`, 'fifo'))
    const archive = archiveFolder(
      treeOf(() => pipes),
      `/${folder}`,
      'tar.gz',
      never,
    )
    const read = `
import sys, tarfile, io
t = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), mode='r:gz')
text = t.extractfile([m for m in t if m.name.endswith('_errors.txt')][0]).read().decode()
print(len(text), text[-30:])`
    const { stdout } = await runTool('python3', ['-c', read], { timeoutMs: 60_000, input: await buffer(Readable.from(archive)) })
    expect(Number(stdout.split(' ')[0])).toBeLessThan(17 * 1024 * 1024)
    expect(stdout).toMatch(/… and \d+ more\./)
  })
})

describe('a zip', () => {
  it('of more entries than memory can hold breaks off, and never looks complete', async () => {
    const folder = Array.from({ length: 120 }, () => 'n'.repeat(255)).join('/')
    const links = Array.from({ length: 6_000 }, (_, number) => entry(`${number}`, 'symlink', { target: 'x' }))
    const tree = treeOf((path) =>
      path === '' ? [entry(folder.split('/')[0]!, 'directory')] : path === folder ? links : [entry('n'.repeat(255), 'directory')],
    )
    let bytes = 0
    const taken = (async () => {
      for await (const piece of archiveFolder(tree, '/', 'zip', never)) bytes += piece.length
    })()
    expect((await failureOf(taken)).message).toContain('tar.gz')
    expect(bytes).toBeGreaterThan(0)
  })
})
