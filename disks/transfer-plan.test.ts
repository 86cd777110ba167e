import { array, assert, asyncProperty, boolean, integer, record } from 'fast-check'
import { expect, it } from 'vitest'
import { BLOCK_SIZE_BYTES, blockCount, blockLengthBytes, CLUSTER_SIZE_BYTES } from '../domain/blocks.ts'
import { ALL_CLUSTERS, overlay, planSteps, type Answer, type PlanStep, type Segment } from './transfer-plan.ts'

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items
}

async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** Contiguous answers over a disk, cut at multiples of 512 bytes. */
const answersOver = (pieces: { sectors: number; yes: boolean }[], sizeBytes: number): Answer[] => {
  const answers: Answer[] = []
  let offset = 0
  for (const { sectors, yes } of pieces) {
    const length = Math.min(sectors * 512, sizeBytes - offset)
    if (length > 0) answers.push({ offset, length, yes })
    offset += Math.max(0, length)
  }
  if (offset < sizeBytes) answers.push({ offset, length: sizeBytes - offset, yes: true })
  return answers
}

const someAnswers = array(record({ sectors: integer({ min: 1, max: 1_500 }), yes: boolean() }), { maxLength: 40 })

const yesAt = (answers: Answer[], at: number): boolean =>
  answers.some((answer) => answer.yes && answer.offset <= at && at < answer.offset + answer.length)

/** The plan by looking at every sector. */
function expectedSteps(changed: Answer[], zero: Answer[], sizeBytes: number): PlanStep[] {
  return Array.from({ length: blockCount(sizeBytes) }, (_, firstIndex): PlanStep => {
    let changedClusters = 0
    let isZero = true
    for (let within = 0; within < blockLengthBytes(firstIndex, sizeBytes); within += 512) {
      const at = firstIndex * BLOCK_SIZE_BYTES + within
      if (yesAt(changed, at)) changedClusters |= 1 << Math.floor(within / CLUSTER_SIZE_BYTES)
      if (!yesAt(zero, at)) isZero = false
    }
    if (changedClusters === 0) return { action: 'keep', firstIndex, count: 1 }
    return isZero ? { action: 'zero', firstIndex, count: 1 } : { action: 'read', firstIndex, count: 1, changedClusters }
  })
}

/** Runs split into single blocks; a mask that covers all of a short last block is as good as all. */
function singly(steps: PlanStep[], sizeBytes: number): PlanStep[] {
  return steps.flatMap((step) =>
    Array.from({ length: step.count }, (_, index): PlanStep => {
      const firstIndex = step.firstIndex + index
      if (step.action !== 'read') return { action: step.action, firstIndex, count: 1 }
      const reach = 2 ** Math.ceil(blockLengthBytes(firstIndex, sizeBytes) / CLUSTER_SIZE_BYTES) - 1
      return { ...step, changedClusters: step.changedClusters & reach }
    }),
  )
}

it('does for every block what its sectors ask for', async () => {
  await assert(
    asyncProperty(someAnswers, someAnswers, integer({ min: 1, max: 12_000 }), async (changes, zeroes, sectors) => {
      const sizeBytes = sectors * 512
      const changed = answersOver(changes, sizeBytes)
      const zero = answersOver(zeroes, sizeBytes)
      const steps = await collected(planSteps(overlay(each(changed), each(zero)), sizeBytes))
      expect(singly(steps, sizeBytes)).toEqual(expectedSteps(changed, zero, sizeBytes))
    }),
    { numRuns: 200 },
  )
})

it('covers long runs in pieces of 1 GiB', async () => {
  const sizeBytes = 3 * 1024 ** 3 + 512
  const hole: Segment = { offset: 0, length: sizeBytes, changed: true, zero: true }
  expect(await collected(planSteps(each([hole]), sizeBytes))).toEqual([
    { action: 'zero', firstIndex: 0, count: 4_096 },
    { action: 'zero', firstIndex: 4_096, count: 4_096 },
    { action: 'zero', firstIndex: 8_192, count: 4_096 },
    { action: 'zero', firstIndex: 12_288, count: 1 },
  ])
})

it('begins in the middle of a disk', async () => {
  const data: Segment = { offset: 2 * BLOCK_SIZE_BYTES, length: BLOCK_SIZE_BYTES, changed: true, zero: false }
  expect(await collected(planSteps(each([data]), 3 * BLOCK_SIZE_BYTES))).toEqual([
    { action: 'read', firstIndex: 2, count: 1, changedClusters: ALL_CLUSTERS },
  ])
})

it('has nothing to do for an empty disk', async () => {
  expect(await collected(planSteps(overlay(each<Answer>([]), each<Answer>([])), 0))).toEqual([])
})
