import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { clipExtents, decodeExtents, mergeExtents, type Extent } from './block-status.ts'

const GIB = 2 ** 30

function encoded(extents: readonly [lengthBytes: number, flags: number][]): Buffer {
  const bytes = Buffer.alloc(extents.length * 8)
  for (const [index, [length, flags]] of extents.entries()) {
    bytes.writeUInt32BE(length, index * 8)
    bytes.writeUInt32BE(flags, index * 8 + 4)
  }
  return bytes
}

async function listed(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const list: Extent[] = []
  for await (const extent of extents) list.push(extent)
  return list
}

async function* repliesOf(...replies: Extent[][]) {
  yield* replies
}

const extent = fc.tuple(fc.integer({ min: 0, max: 5000 }), fc.nat(3))
const replyAndOffset = fc.tuple(fc.array(extent, { minLength: 1, maxLength: 20 }), fc.integer({ min: 0, max: 2 ** 52 }))
const REQUEST_BYTES = 20_000
/** Whether the protocol allows these extents: none empty, none that begins beyond the request. */
const allowed = (raw: [number, number][]): boolean =>
  raw.every(([length]) => length > 0) && raw.slice(0, -1).reduce((sum, [length]) => sum + length, 0) < REQUEST_BYTES

test('decoded extents are contiguous, within the request, and start at its offset', () => {
  fc.assert(
    fc.property(
      replyAndOffset.filter(([raw]) => allowed(raw)),
      ([raw, offset]) => {
        const end = offset + REQUEST_BYTES
        let next = offset
        const expected = raw.map(([length, flags]) => {
          const extent = { offset: next, length: Math.min(length, end - next), flags }
          next += length
          return extent
        })
        expect(decodeExtents(encoded(raw), { offset, length: REQUEST_BYTES })).toEqual(expected)
      },
    ),
  )
})

test('empty extents and extents beyond the request are refused', () => {
  fc.assert(
    fc.property(
      replyAndOffset.filter(([raw]) => !allowed(raw)),
      ([raw, offset]) => {
        expect(decodeExtents(encoded(raw), { offset, length: REQUEST_BYTES })).toMatch(/no bytes|beyond/)
      },
    ),
  )
})

test('of a reply with a million extents only the first are kept', () => {
  const million = encoded(Array.from({ length: 1_000_000 }, () => [1, 0]))
  const extents = decodeExtents(million, { offset: 0, length: 1_000_000 })
  expect(extents).toHaveLength(131_072)
}, 30_000)

test('clipping keeps what lies inside and drops the rest', () => {
  const extents = [
    { offset: 0, length: 100, flags: 1 },
    { offset: 100, length: 100, flags: 2 },
    { offset: 200, length: 100, flags: 3 },
  ]
  expect(clipExtents(extents, 150, 201)).toEqual([
    { offset: 150, length: 50, flags: 2 },
    { offset: 200, length: 1, flags: 3 },
  ])
  expect(clipExtents(extents, 300, 400)).toEqual([])
})

test('merging joins equal neighbours across replies beyond 4 GiB, and keeps gaps and differences', async () => {
  const merged = await listed(
    mergeExtents(
      repliesOf(
        [
          { offset: 0, length: 3 * GIB, flags: 0 },
          { offset: 3 * GIB, length: GIB, flags: 0 },
        ],
        [
          { offset: 4 * GIB, length: 4 * GIB, flags: 0 },
          { offset: 8 * GIB, length: 1, flags: 3 },
        ],
        [],
        [{ offset: 9 * GIB, length: 1, flags: 3 }],
      ),
    ),
  )
  expect(merged).toEqual([
    { offset: 0, length: 8 * GIB, flags: 0 },
    { offset: 8 * GIB, length: 1, flags: 3 },
    { offset: 9 * GIB, length: 1, flags: 3 },
  ])
})

test('merging changes no caller’s extents', async () => {
  const mine = [
    { offset: 0, length: 1, flags: 0 },
    { offset: 1, length: 1, flags: 0 },
  ]
  await listed(mergeExtents(repliesOf(mine)))
  expect(mine[0]?.length).toBe(1)
})
