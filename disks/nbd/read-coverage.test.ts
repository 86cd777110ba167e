import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { ReadCoverage } from './read-coverage.ts'

/** Cuts `[0, length)` at random places. */
const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 199 }), { maxLength: 40 }).map((points) => {
  const sorted = [0, ...points.sort((a, b) => a - b), 200]
  return sorted.slice(1).map((end, index) => ({ start: sorted[index] ?? 0, length: end - (sorted[index] ?? 0) }))
})

test('complete exactly when the last missing piece arrives, in any order', () => {
  fc.assert(
    fc.property(
      cuts.chain((pieces) => fc.shuffledSubarray(pieces, { minLength: pieces.length })),
      (pieces) => {
        const coverage = new ReadCoverage(200)
        for (const { start, length } of pieces) {
          expect(coverage.complete).toBe(false)
          expect(coverage.add(start, length)).toBeNull()
        }
        expect(coverage.complete).toBe(true)
      },
    ),
  )
})

test('agrees with a byte map on what overlaps and what leaves the range', () => {
  const range = fc.record({ start: fc.integer({ min: -5, max: 70 }), length: fc.integer({ min: 0, max: 30 }) })
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), (ranges) => {
      const coverage = new ReadCoverage(64)
      const seen = new Set<number>()
      for (const { start, length } of ranges) {
        const bytes = Array.from({ length }, (_, index) => start + index)
        const outside = length === 0 || start < 0 || start + length > 64
        const overlaps = bytes.some((byte) => seen.has(byte))
        const verdict = outside ? 'outside' : overlaps ? 'overlap' : 'fine'
        expect(coverage.add(start, length) ?? 'fine').toContain(verdict)
        if (verdict === 'fine') for (const byte of bytes) seen.add(byte)
        expect(coverage.complete).toBe(seen.size === 64)
      }
    }),
  )
})

test('a start beyond 2^53 is outside', () => {
  expect(new ReadCoverage(512).add(Number.NaN, 1)).toMatch(/outside/)
})
