import { expect, test } from 'vitest'
import { SILENT_AFTER_MS, paceOf, percentages } from './progress.ts'

const now = new Date('2026-01-01T00:00:00Z')
const running = { status: 'running' as const, processed: 250, total: 1000, ratePerSecond: 10, reportedAt: now }

test('a running transfer has its rate and the seconds that are left', () => {
  expect(paceOf(running, now)).toEqual({ ratePerSecond: 10, etaSeconds: 75 })
  expect(paceOf({ ...running, ratePerSecond: 0 }, now)).toEqual({ ratePerSecond: 0, etaSeconds: null })
})

test('one that has fallen silent, or has ended, has neither', () => {
  const later = new Date(now.getTime() + SILENT_AFTER_MS + 1)
  expect(paceOf(running, later)).toEqual({ ratePerSecond: 0, etaSeconds: null })
  expect(paceOf({ ...running, status: 'completed' }, now)).toEqual({ ratePerSecond: 0, etaSeconds: null })
})

test('completed is 100 %, even of nothing; others are what they are', () => {
  expect(percentages('completed', 0, 0)).toEqual({ progress_percent: 100, progress_percentage: 100 })
  expect(percentages('failed', 333, 1000)).toEqual({ progress_percent: 33.3, progress_percentage: 33.3 })
  expect(percentages('running', 2000, 1000).progress_percent).toBe(100)
})
