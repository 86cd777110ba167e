import { describe, expect, it } from 'vitest'
import type { FileStatus } from '../mounts/file-reader.ts'
import { httpDate, rfc3339 } from './file-times.ts'
import { isCurrent, mayContinue, validatorsOf } from './validators.ts'

const NOW = Date.UTC(2026, 0, 1)
const status: FileStatus = {
  kind: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  sizeBytes: 5,
  inode: 7,
  links: 1,
  modifiedSeconds: Date.UTC(2020, 1, 2, 3, 4, 5) / 1_000,
  modifiedNanoseconds: 6,
  target: null,
}
const known = validatorsOf('mount', '/a', status, NOW)
const none = { ifNoneMatch: undefined, ifModifiedSince: undefined, ifRange: undefined }

describe('what a client may remember', () => {
  it('is strong, and another one when anything about the file is', () => {
    expect(known).toEqual({ etag: expect.stringMatching(/^"[\w-]{32}"$/), lastModified: 'Sun, 02 Feb 2020 03:04:05 GMT' })
    const others = [
      validatorsOf('other', '/a', status, NOW),
      validatorsOf('mount', '/b', status, NOW),
      validatorsOf('mount', '/a', { ...status, sizeBytes: 6 }, NOW),
      validatorsOf('mount', '/a', { ...status, modifiedSeconds: 1 }, NOW),
      validatorsOf('mount', '/a', { ...status, modifiedNanoseconds: 7 }, NOW),
    ]
    expect(new Set([known, ...others].map(({ etag }) => etag)).size).toBe(6)
    // Made up anew by FAT at every mount: a download must go on after that.
    expect(validatorsOf('mount', '/a', { ...status, inode: 8 }, NOW)).toEqual(known)
  })

  it.each([
    [{ ifNoneMatch: known.etag }, true],
    [{ ifNoneMatch: `"x", W/${known.etag}` }, true],
    [{ ifNoneMatch: '*' }, true],
    [{ ifNoneMatch: '"x"' }, false],
    [{ ifNoneMatch: '"x"', ifModifiedSince: known.lastModified! }, false],
    [{ ifModifiedSince: known.lastModified! }, true],
    [{ ifModifiedSince: 'Sun, 02 Feb 2020 03:04:04 GMT' }, false],
    [{ ifModifiedSince: 'yesterday' }, false],
    [{}, false],
  ])('is still good: %j %s', (conditions, current) => {
    expect(isCurrent(known, { ...none, ...conditions })).toBe(current)
  })

  it('lets a download go on with the same file only', () => {
    expect(mayContinue(known, none)).toBe(true)
    expect(mayContinue(known, { ...none, ifRange: known.etag })).toBe(true)
    expect(mayContinue(known, { ...none, ifRange: known.lastModified! })).toBe(true)
    expect(mayContinue(known, { ...none, ifRange: `W/${known.etag}` })).toBe(false)
    expect(mayContinue(known, { ...none, ifRange: '"x"' })).toBe(false)
  })
})

describe('times', () => {
  it.each([
    [1_700_000_000, 1, '2023-11-14T22:13:20.000000001Z'],
    [-1, 999_999_999, '1969-12-31T23:59:59.999999999Z'],
    [253_402_300_800, 0, null],
    [-1e11, 0, null],
    [1e15, 0, null],
  ])('%d s and %d ns', (seconds, nanoseconds, text) => {
    expect(rfc3339(seconds, nanoseconds)).toBe(text)
  })

  it('to come are no time of a change for HTTP', () => {
    expect(httpDate(NOW / 1_000 + 1, NOW)).toBeNull()
    expect(httpDate(1e15, Infinity)).toBeNull()
  })
})
