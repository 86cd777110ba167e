import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { rangeOf } from './byte-range.ts'

describe('Range', () => {
  it.each([
    ['bytes=0-0', { offset: 0, length: 1 }],
    ['bytes=2-5', { offset: 2, length: 4 }],
    ['bytes=2-', { offset: 2, length: 8 }],
    ['bytes=-3', { offset: 7, length: 3 }],
    ['bytes=-300', { offset: 0, length: 10 }],
    ['bytes=9-99999999999999999999999999', { offset: 9, length: 1 }],
    ['BYTES= 1-1 ', { offset: 1, length: 1 }],
  ])('%s of ten bytes', (header, range) => {
    expect(rangeOf(header, 10)).toEqual(range)
  })

  it.each([
    'bytes=5-2',
    'bytes=-',
    'bytes=a-b',
    'bytes=1-2,4-5',
    'bytes=1',
    'lines=1-2',
    'bytes=1--2',
    'bytes=-1-2',
    '',
    undefined,
  ])('sends all for %j, which is no range that must be understood', (header) => {
    expect(rangeOf(header, 10)).toBeNull()
  })

  it.each(['bytes=10-', 'bytes=10-20', 'bytes=-0', 'bytes=99999999999999999999-'])('refuses %s of ten bytes', async (header) => {
    const failure = await failureOf(Promise.resolve().then(() => rangeOf(header, 10)))
    expect(failure).toMatchObject({ code: 'RANGE_NOT_SATISFIABLE', details: { size_bytes: 10 } })
  })

  it('sends all of an empty file, whatever is asked', () => {
    expect(rangeOf('bytes=0-', 0)).toBeNull()
    expect(rangeOf('bytes=-5', 0)).toBeNull()
  })

  it('never leaves the file', () => {
    const number = fc.oneof(fc.nat(), fc.bigInt({ min: 0n, max: 10n ** 30n })).map(String)
    fc.assert(
      fc.property(fc.option(number), fc.option(number), fc.integer({ min: 1 }), (first, last, size) => {
        let range = null
        try {
          range = rangeOf(`bytes=${first ?? ''}-${last ?? ''}`, size)
        } catch {
          return
        }
        if (range === null) return
        expect(range.offset).toBeGreaterThanOrEqual(0)
        expect(range.length).toBeGreaterThan(0)
        expect(range.offset + range.length).toBeLessThanOrEqual(size)
      }),
    )
  })
})
