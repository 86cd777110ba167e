import { expect, it } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { Checkpoints } from './checkpoints.ts'
import type { Checkpoint } from './journal.ts'
import { Watermark } from './watermark.ts'

/** Storage whose sync fails once, as Linux reports lost writes. */
function failingOnce(): { sync: () => Promise<void>; failure: Error } {
  const failure = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO', syscall: 'fdatasync' })
  let failed = false
  const sync = async (): Promise<void> => {
    if (failed) return
    failed = true
    throw failure
  }
  return { sync, failure }
}

function checkpointsOver(parts: { flush?: () => Promise<void>; sync?: () => Promise<void> }) {
  const lines: Checkpoint[] = []
  const watermark = new Watermark({ positionBytes: 0, writtenBytes: 0 })
  const checkpoints = new Checkpoints({
    target: { flush: parts.flush ?? (async () => {}) },
    hashes: { sync: parts.sync ?? (async () => {}) },
    journal: { append: async (line) => void lines.push(line) },
    watermark,
    start: watermark.reached,
    checkpointIntervalMs: 0,
    checkpointIntervalBytes: 1,
  })
  return { checkpoints, watermark, lines }
}

it.each(['flush', 'sync'])('claims nothing after a failed %s, although the next one would succeed', async (part) => {
  const { sync, failure } = failingOnce()
  const { checkpoints, watermark, lines } = checkpointsOver({ [part]: sync })
  watermark.begin(BLOCK_SIZE_BYTES)(1)
  const { promise: told, resolve } = Promise.withResolvers<unknown>()
  checkpoints.consider(resolve)
  expect(await told).toBe(failure)
  // The lanes that still run may ask for more.
  checkpoints.consider(() => expect.unreachable('a second checkpoint was begun'))
  await expect(checkpoints.finish()).rejects.toBe(failure)
  await expect(checkpoints.finish()).rejects.toBe(failure)
  expect(lines).toEqual([])
  expect(checkpoints.durable.positionBytes).toBe(0)
})

it('makes one after the other, and the last one on finishing', async () => {
  const { checkpoints, watermark, lines } = checkpointsOver({})
  for (let step = 1; step <= 3; step++) {
    watermark.begin(step * BLOCK_SIZE_BYTES)(1)
    checkpoints.consider(() => expect.unreachable('a checkpoint failed'))
    await expect.poll(() => lines.length).toBe(step)
  }
  await checkpoints.finish()
  expect(lines.map(({ positionBytes }) => positionBytes / BLOCK_SIZE_BYTES)).toEqual([1, 2, 3, 3])
})
