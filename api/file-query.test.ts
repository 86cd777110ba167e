import { describe, expect, it } from 'vitest'
import { filePathOf } from './file-query.ts'

describe('the path in a query', () => {
  it('is given in its shortest form', () => {
    expect(filePathOf('http://h/files?path=%2Fa%2F%2Fb%2F', '/a//b/')).toBe('/a/b')
  })

  it.each(['http://h/files?path=/a%FF', 'http://h/files?path=/a?b%FF', 'http://h/files?x=?&path=/%E4%'])(
    'is refused when it is no UTF-8: %s',
    (url) => {
      expect(() => filePathOf(url, '/a')).toThrow('not percent-encoded UTF-8')
    },
  )
})
