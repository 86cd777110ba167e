import { expect, test } from 'vitest'
import { EXACT_MOST, STALE_AFTER_MS, USELESS_AFTER_MS, createTotals } from './totals.ts'

/** A list of `rows` rows that notes how far it was counted. */
function list(rows: number) {
  const counted: number[] = []
  const state = { rows, fails: false }
  const count = async (most = Number.POSITIVE_INFINITY) => {
    counted.push(most)
    if (state.fails) throw new Error('away')
    return Math.min(most, state.rows)
  }
  return { state, counted, count }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

test('small totals are counted afresh, and never far', async () => {
  const totalOf = createTotals(() => 0)
  const { state, counted, count } = list(EXACT_MOST)
  expect(await totalOf('x', {}, count)).toBe(EXACT_MOST)
  state.rows = 3
  expect(await totalOf('x', {}, count)).toBe(3)
  expect(counted).toEqual([EXACT_MOST + 1, EXACT_MOST + 1])
})

test('large totals are kept for a while, then counted again behind the answer', async () => {
  let now = 0
  const totalOf = createTotals(() => now)
  const { state, counted, count } = list(1_000_000)
  expect(await totalOf('x', {}, count)).toBe(1_000_000)
  state.rows = 1_000_007
  expect(await totalOf('x', {}, count)).toBe(1_000_000)
  expect(counted).toHaveLength(2)
  now = STALE_AFTER_MS
  expect(await Promise.all([totalOf('x', {}, count), totalOf('x', {}, count)])).toEqual([1_000_000, 1_000_000])
  await turn()
  expect(counted, 'one recount for both').toHaveLength(3)
  expect(await totalOf('x', {}, count)).toBe(1_000_007)
})

test('a list that has shrunk is counted afresh again', async () => {
  let now = 0
  const totalOf = createTotals(() => now)
  const { state, count } = list(EXACT_MOST + 5)
  await totalOf('x', {}, count)
  state.rows = 2
  now = STALE_AFTER_MS
  await totalOf('x', {}, count)
  await turn()
  expect(await totalOf('x', {}, count)).toBe(2)
})

test('what is too old is not given: the answer waits', async () => {
  let now = 0
  const totalOf = createTotals(() => now)
  const { state, count } = list(20_000)
  await totalOf('x', {}, count)
  state.rows = 30_000
  now = USELESS_AFTER_MS
  expect(await totalOf('x', {}, count)).toBe(30_000)
})

test('a recount that fails leaves the old total and is tried again', async () => {
  let now = 0
  const totalOf = createTotals(() => now)
  const { state, count } = list(20_000)
  await totalOf('x', {}, count)
  state.fails = true
  now = STALE_AFTER_MS
  expect(await totalOf('x', {}, count)).toBe(20_000)
  await turn()
  state.fails = false
  state.rows = 20_001
  expect(await totalOf('x', {}, count)).toBe(20_000)
  await turn()
  expect(await totalOf('x', {}, count)).toBe(20_001)
})

test('every filter has its own total', async () => {
  const totalOf = createTotals(() => 0)
  expect(await totalOf('x', { status: 'failed' }, list(20_000).count)).toBe(20_000)
  expect(await totalOf('x', { status: 'running' }, list(30_000).count)).toBe(30_000)
  expect(await totalOf('y', { status: 'failed' }, list(40_000).count)).toBe(40_000)
})
