import { validateHeaderValue } from 'node:http'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nameFromBytes } from '../mounts/file-names.ts'
import { contentDisposition } from './content-disposition.ts'

/** Any bytes that a file system takes for a name. */
const anyName = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => nameFromBytes(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x22 : byte))))

const parts = /^attachment; filename="([^"\\\r\n]*)"; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]*)$/

describe('Content-Disposition', () => {
  it('says any name so that headers take it and it can be read back', () => {
    fc.assert(
      fc.property(fc.oneof(anyName, fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' })), (name) => {
        const header = contentDisposition(name)
        validateHeaderValue('Content-Disposition', header)
        const [, plain = '', exact = ''] = parts.exec(header) ?? []
        expect(decodeURIComponent(exact)).toBe(name.toWellFormed())
        expect(plain).toMatch(/^[A-Za-z0-9 ._()+,=@~#-]*$/)
        expect(Array.from(plain)).toHaveLength(Array.from(name).length)
      }),
      { numRuns: 150 },
    )
  })

  it.each([
    ['plain name (1).txt', 'attachment; filename="plain name (1).txt"; filename*=UTF-8\'\'plain%20name%20%281%29.txt'],
    ['Größe.txt', 'attachment; filename="Gr__e.txt"; filename*=UTF-8\'\'Gr%C3%B6%C3%9Fe.txt'],
    ['a"b\\c', 'attachment; filename="a_b_c"; filename*=UTF-8\'\'a%22b%5Cc'],
    ["x\r\nSet-Cookie: a'b", 'attachment; filename="x__Set-Cookie_ a_b"; filename*=UTF-8\'\'x%0D%0ASet-Cookie%3A%20a%27b'],
    ['../../etc', 'attachment; filename=".._.._etc"; filename*=UTF-8\'\'..%2F..%2Fetc'],
    ['half \ud800', 'attachment; filename="half _"; filename*=UTF-8\'\'half%20%EF%BF%BD'],
  ])('%j', (name, header) => {
    expect(contentDisposition(name)).toBe(header)
  })
})
