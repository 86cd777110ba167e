import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { archivePath, topFolder } from './archive-names.ts'
import { headerDate, tarFields } from './tar-fields.ts'
import type { FileStatus } from '../mounts/file-reader.ts'

const status = (changes: Partial<FileStatus>): FileStatus => ({
  kind: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  sizeBytes: 0,
  inode: 1,
  links: 1,
  modifiedSeconds: 0,
  modifiedNanoseconds: 0,
  target: null,
  ...changes,
})

describe('names in archives', () => {
  it('stay below the one folder', () => {
    expect(archivePath('zip', topFolder(['var', 'log']), ['a', 'b'])).toBe('log/a/b')
    expect(archivePath('tar.gz', topFolder([]), ['..\\..\\x'])).toBe('files/..\\..\\x')
    const name = fc
      .string({ unit: 'binary', minLength: 1, maxLength: 20 })
      .filter((text) => !/[/\0]/.test(text) && text !== '.' && text !== '..')
    fc.assert(
      fc.property(name, fc.array(name, { maxLength: 4 }), (top, names) => {
        const path = archivePath('zip', top, names)
        expect(path).not.toMatch(/\\|^\w*:/)
        expect(path.split('/')).toHaveLength(names.length + 1)
      }),
    )
  })

  it.each(['..', '.', '', 'a/b', 'a\0'])('that no file system has are a failure of ours: %j', (name) => {
    expect(() => archivePath('tar.gz', 'top', ['a', name])).toThrow('cannot stand in an archive')
  })
})

describe('tar headers', () => {
  it.each([
    [{ modifiedSeconds: 1_700_000_000, modifiedNanoseconds: 5 }, '1700000000.000000005'],
    [{ modifiedSeconds: 0, modifiedNanoseconds: 0 }, '0.000000000'],
    [{ modifiedSeconds: -2, modifiedNanoseconds: 500_000_000 }, '-1.500000000'],
    [{ modifiedSeconds: 9e15, modifiedNanoseconds: 0 }, '0'],
  ])('have times to the nanosecond: %j', (changes, mtime) => {
    expect(tarFields('a', status(changes)).pax).toEqual({ mtime })
  })

  it('leave to their extension what they have no digits for', () => {
    const fields = tarFields('a\\b', status({ kind: 'directory', uid: 0o777777, gid: 4_000_000_000 }))
    expect(fields).toMatchObject({ uid: 0o777777, gid: 0, pax: { gid: '4000000000', path: 'a\\b/' } })
    expect(fields.pax).not.toHaveProperty('uid')
    expect(headerDate(status({ modifiedSeconds: 2 ** 40 })).getTime()).toBe((2 ** 31 - 1) * 1_000)
    expect(headerDate(status({ modifiedSeconds: -5 })).getTime()).toBe(0)
  })
})
