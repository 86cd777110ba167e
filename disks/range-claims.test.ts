import { describe, expect, it } from 'vitest'
import { RANGE_BYTES, RangeClaims } from './range-claims.ts'

describe('ranges shared among threads', () => {
  it('cover the disk once, in order, the last one shorter', () => {
    const sizeBytes = 2 * RANGE_BYTES + 512
    const claims = RangeClaims.create(sizeBytes, 0, 2)
    const taken = [claims.claim(0), claims.claim(1), claims.claim(0), claims.claim(1), claims.claim(0)]
    expect(taken).toEqual([
      { from: 0, to: RANGE_BYTES },
      { from: RANGE_BYTES, to: 2 * RANGE_BYTES },
      { from: 2 * RANGE_BYTES, to: sizeBytes },
      null,
      null,
    ])
  })

  it('count as done only up to the oldest that is still held', () => {
    const claims = RangeClaims.create(10 * RANGE_BYTES, 0, 2)
    expect(claims.reachedBytes()).toBe(0)
    claims.claim(0)
    claims.claim(1)
    claims.claim(1)
    expect(claims.reachedBytes()).toBe(0)
    claims.claim(0)
    expect(claims.reachedBytes()).toBe(2 * RANGE_BYTES)
  })

  it('are all done when every slot was told that nothing is left, and are seen through the shared memory', () => {
    const claims = RangeClaims.create(RANGE_BYTES + 1, RANGE_BYTES, 2)
    const elsewhere = RangeClaims.of(claims.shared, RANGE_BYTES + 1)
    expect(elsewhere.claim(0)).toEqual({ from: RANGE_BYTES, to: RANGE_BYTES + 1 })
    expect(elsewhere.claim(1)).toBeNull()
    expect(claims.reachedBytes()).toBe(RANGE_BYTES)
    expect(elsewhere.claim(0)).toBeNull()
    expect(claims.reachedBytes()).toBe(RANGE_BYTES + 1)
  })
})
