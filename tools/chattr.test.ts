import { describe, expect, test } from 'vitest'
import { immutableIn } from './chattr.ts'

describe('what lsattr says', () => {
  test.each([
    ['ext4, e2fsprogs 1.47', '----i---------e------- file\n--------------e------- .\n', ['file']],
    ['e2fsprogs 1.44, fewer columns', '----i---------e---- file\n----i---------e---- .\n', ['file', '.']],
    ['an indexed folder, whose letter is another', '--------------e------- file\n-----------I--e------- .\n', []],
    ['append only', '-----a--------e------- file\n---------------------- .\n', []],
    ['an order of its own', '----i----------------- .\n---------------------- file\n', ['.']],
  ])('is read: %s', (_, output, expected) => {
    expect([...immutableIn(output, ['file', '.'])]).toEqual(expected)
  })

  test('of a name with a space', () => {
    expect([...immutableIn('----i---------e------- a file\n', ['a file'])]).toEqual(['a file'])
  })

  test.each(['', 'lsattr: Operation not supported While reading flags on file\n', '----i---------e------- other\n'])(
    'is no answer when it says nothing about a name: "%s"',
    (output) => {
      expect(() => immutableIn(output, ['file'])).toThrow('lsattr says nothing about "file"')
    },
  )
})
