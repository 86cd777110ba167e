import { expect, test } from 'vitest'
import { HoldfastError } from './errors.ts'
import { checkSettings, thresholdsOf } from './repository-settings.ts'
import type { RepositorySettings } from './repository-settings.ts'

const locked = (retentionPeriodDays: number): Partial<RepositorySettings> => ({
  immutability: { method: 'linux_chattr', retentionPeriodDays },
})
const warned = (warningPercent: number, criticalPercent: number): Partial<RepositorySettings> => ({
  thresholds: { warningPercent, criticalPercent },
})

test.each([
  ['nothing', {}],
  ['everything at its default', { thresholds: null, immutability: null, minRetentionDays: null }],
  ['the widest thresholds', warned(50, 100)],
  ['the narrowest', warned(99, 100)],
  ['one day', locked(1)],
  ['a hundred years', { ...locked(36_500), minRetentionDays: 36_500 }],
])('takes %s', (_what, settings) => {
  expect(() => checkSettings(settings)).not.toThrow()
})

test.each([
  ['thresholds that are one', warned(90, 90)],
  ['thresholds the wrong way round', warned(95, 90)],
  ['a threshold below half full', warned(49, 90)],
  ['more than full', warned(90, 101)],
  ['half a per cent', warned(90.5, 95)],
  ['no threshold at all', warned(Number.NaN, 95)],
  ['no day', locked(0)],
  ['half a day', locked(0.5)],
  ['more than a hundred years', locked(36_501)],
  ['a negative age', { minRetentionDays: -1 }],
])('refuses %s: INVALID_REQUEST', (_what, settings) => {
  expect(() => checkSettings(settings)).toThrow(HoldfastError)
  expect(() => checkSettings(settings)).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }))
})

test('a threshold that is not given has its default', () => {
  expect(thresholdsOf({})).toEqual({ warningPercent: 90, criticalPercent: 95 })
  expect(thresholdsOf({ warningPercent: 80 })).toEqual({ warningPercent: 80, criticalPercent: 95 })
})
