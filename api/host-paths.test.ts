import { expect, test } from 'vitest'
import { isNormalAbsolutePath, liesIn } from './host-paths.ts'

test.each(['/a', '/srv/backups', '/srv/Büro 1/disk.raw', '/a..b', '/.hidden'])('%j is a normal path', (path) => {
  expect(isNormalAbsolutePath(path)).toBe(true)
})

test.each(['', '/', 'a', './a', '/a/', '/a//b', '/a/../b', '/a/.', '//a', '/a\0b', '/a\nb', '/..', '\\a', '/\ud800'])(
  '%j is not',
  (path) => {
    expect(isNormalAbsolutePath(path)).toBe(false)
  },
)

test('a folder holds itself and what is below, not its namesakes', () => {
  expect(liesIn('/srv/a', '/srv/a')).toBe(true)
  expect(liesIn('/srv/a/b', '/srv/a')).toBe(true)
  expect(liesIn('/srv/ab', '/srv/a')).toBe(false)
  expect(liesIn('/srv', '/srv/a')).toBe(false)
  expect(liesIn('/x', '/')).toBe(true)
})
