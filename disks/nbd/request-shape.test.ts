import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { aligned, pieces, statusRange } from './request-shape.ts'

const block = fc.integer({ min: 0, max: 16 }).map((power) => 2 ** power)
const offset = fc.integer({ min: 0, max: 2 ** 50 })
const length = fc.integer({ min: 1, max: 2 ** 40 })

test('aligning widens to whole blocks and by less than one at each end', () => {
  fc.assert(
    fc.property(offset, length, block, (offset, length, minBlockBytes) => {
      const around = aligned(offset, length, { minBlockBytes })
      expect([around.offset % minBlockBytes, around.length % minBlockBytes]).toEqual([0, 0])
      expect(offset - around.offset).toBeGreaterThanOrEqual(0)
      expect(offset - around.offset).toBeLessThan(minBlockBytes)
      const tail = around.offset + around.length - (offset + length)
      expect(tail).toBeGreaterThanOrEqual(0)
      expect(tail).toBeLessThan(minBlockBytes)
    }),
  )
})

test('pieces follow each other and make up the whole', () => {
  fc.assert(
    fc.property(offset, fc.nat(1000), fc.integer({ min: 10, max: 3000 }), (offset, length, sizeBytesMax) => {
      let next = offset
      for (const piece of pieces(offset, length, sizeBytesMax)) {
        expect(piece.offset).toBe(next)
        expect(piece.length).toBeGreaterThan(0)
        expect(piece.length).toBeLessThanOrEqual(sizeBytesMax)
        next += piece.length
      }
      expect(next).toBe(offset + length)
    }),
  )
})

test('a status request is aligned, below 4 GiB, on the disk, and reaches what it was asked about', () => {
  fc.assert(
    fc.property(offset, length, block, (offset, length, minBlockBytes) => {
      const sizeBytes = Math.ceil((offset + length) / minBlockBytes) * minBlockBytes
      const range = statusRange(offset, length, { minBlockBytes, sizeBytes })
      expect([range.offset % minBlockBytes, range.length % minBlockBytes]).toEqual([0, 0])
      expect(range.length).toBeLessThan(2 ** 32)
      expect(range.offset + range.length).toBeGreaterThan(offset)
      expect(range.offset + range.length).toBeLessThanOrEqual(sizeBytes)
    }),
  )
})
