import { assert, asyncProperty, integer } from 'fast-check'
import { expect, it } from 'vitest'
import { filePieces } from './file-pieces.ts'
import { SLOT_BYTES } from './window.ts'

/** A file of so many bytes, whose pieces are never longer than `atMost`; counts what is asked for. */
function fileOf(sizeBytes: number, atMost = SLOT_BYTES) {
  const asked: number[] = []
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    asked.push(offset)
    await Promise.resolve()
    return Buffer.alloc(Math.max(0, Math.min(length, atMost, sizeBytes - offset)), offset % 251)
  }
  return { asked, read }
}

async function lengthOf(pieces: AsyncIterable<Uint8Array>): Promise<number> {
  let total = 0
  for await (const piece of pieces) total += piece.length
  return total
}

it('reads exactly the range, whatever the answers are cut into', async () => {
  const bytes = integer({ min: 0, max: 5 * SLOT_BYTES })
  await assert(
    asyncProperty(bytes, bytes, bytes, integer({ min: 700_000, max: SLOT_BYTES }), async (size, offset, length, atMost) => {
      const found = await lengthOf(filePieces(fileOf(size, atMost).read, { offset, length }))
      expect(found).toBe(Math.max(0, Math.min(length, size - offset)))
    }),
    { numRuns: 50 },
  )
})

it('asks once for a small file, and three pieces ahead in a large one', async () => {
  const small = fileOf(100)
  expect(await lengthOf(filePieces(small.read, { offset: 0, length: 100 }))).toBe(100)
  expect(small.asked).toEqual([0])
  const large = fileOf(100 * SLOT_BYTES)
  const pieces = filePieces(large.read, { offset: 0, length: 100 * SLOT_BYTES })
  await pieces.next()
  expect(large.asked).toHaveLength(4)
  await pieces.next()
  expect(large.asked).toHaveLength(5)
  await pieces.return(undefined)
  expect(large.asked).toHaveLength(5)
})

it('gives what comes before a place that cannot be read, then its error', async () => {
  const broken = new Error('broken')
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    if (offset === SLOT_BYTES + 5) throw broken
    return Buffer.alloc(offset === SLOT_BYTES ? 5 : length)
  }
  const pieces = filePieces(read, { offset: 0, length: 4 * SLOT_BYTES })
  expect((await pieces.next()).value).toHaveLength(SLOT_BYTES)
  expect((await pieces.next()).value).toHaveLength(5)
  await expect(pieces.next()).rejects.toBe(broken)
})

it('tells what still waits when it is left', async () => {
  const signals: AbortSignal[] = []
  const read = async (_offset: number, length: number, signal: AbortSignal): Promise<Uint8Array> => {
    signals.push(signal)
    return Buffer.alloc(length)
  }
  const pieces = filePieces(read, { offset: 0, length: 9 * SLOT_BYTES })
  await pieces.next()
  expect(signals.some(({ aborted }) => aborted)).toBe(false)
  await pieces.return(undefined)
  expect(signals.every(({ aborted }) => aborted)).toBe(true)
})
