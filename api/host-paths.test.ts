import { expect, test } from 'vitest'
import { isNormalAbsolutePath } from './host-paths.ts'

test.each(['/a', '/srv/backups', '/srv/Büro 1/disk.raw', '/a..b', '/.hidden'])('%j is a normal path', (path) => {
  expect(isNormalAbsolutePath(path)).toBe(true)
})

test.each(['', '/', 'a', './a', '/a/', '/a//b', '/a/../b', '/a/.', '//a', '/a\0b', '/a\nb', '/..', '\\a', '/\ud800'])(
  '%j is not',
  (path) => {
    expect(isNormalAbsolutePath(path)).toBe(false)
  },
)
