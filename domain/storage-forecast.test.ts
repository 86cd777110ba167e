import { assert, array, integer, property, shuffledSubarray } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DAY_MS, forecastFull } from './storage-forecast.ts'
import type { SpaceSample } from './storage-forecast.ts'

const GIB = 1024 ** 3
const CAPACITY = 1000 * GIB
const start = Date.UTC(2026, 0, 1)

/** Used so many GiB, on day 0, 1, 2 … */
const daily = (...usedGib: number[]): SpaceSample[] => usedGib.map((used, day) => sample(day, used * GIB))

function sample(day: number, usedBytes: number): SpaceSample {
  return { at: start + day * DAY_MS, usedBytes, availableBytes: CAPACITY - usedBytes }
}

describe('growth', () => {
  test('on a straight line is told exactly, with the day it is full and what it rests on', () => {
    expect(forecastFull(daily(100, 110, 120, 130))).toEqual({
      growthBytesPerDay: 10 * GIB,
      fullAt: start + (3 + 87) * DAY_MS,
      sampleCount: 4,
      spanMs: 3 * DAY_MS,
    })
  })

  test('with a few backups deleted in between is that of the line that fits best', () => {
    const { growthBytesPerDay } = forecastFull(daily(100, 120, 140, 110, 130, 150, 120, 140, 160))
    expect(growthBytesPerDay! / GIB).toBeGreaterThan(3)
    expect(growthBytesPerDay! / GIB).toBeLessThan(7)
  })

  test('that stands still or goes back has no end', () => {
    expect(forecastFull(daily(100, 100, 100))).toMatchObject({ growthBytesPerDay: 0, fullAt: null })
    expect(forecastFull(daily(120, 110, 100))).toMatchObject({ growthBytesPerDay: -10 * GIB, fullAt: null })
  })

  test('that takes more than ten years has no date', () => {
    const slow = [0, 1, 2].map((day) => sample(day, day * 1024 ** 2))
    expect(forecastFull(slow)).toMatchObject({ growthBytesPerDay: 1024 ** 2, fullAt: null })
  })

  test('of what is full already ends now', () => {
    expect(forecastFull(daily(800, 900, 1000)).fullAt).toBe(start + 2 * DAY_MS)
  })

  test.each([
    ['no sample', []],
    ['one', daily(1)],
    ['two', daily(1, 2)],
    ['many within a day', Array.from({ length: 280 }, (_, turn) => sample((turn * 5) / 1440, turn * GIB))],
    ['many at one instant', Array.from({ length: 9 }, (_, turn) => sample(0, turn * GIB))],
  ])('is not told from %s', (_, samples) => {
    const { growthBytesPerDay, fullAt, sampleCount } = forecastFull(samples)
    expect([growthBytesPerDay, fullAt, sampleCount]).toEqual([null, null, samples.length])
  })
})

describe('whatever the samples', () => {
  const days = array(integer({ min: 0, max: CAPACITY }), { minLength: 3, maxLength: 60 })

  test('a date is never before the newest sample nor later than ten years, and only with growth', () => {
    assert(
      property(days, (used) => {
        const samples = used.map((bytes, day) => sample(day, bytes))
        const { growthBytesPerDay, fullAt } = forecastFull(samples)
        const newest = samples.at(-1)!.at
        expect(growthBytesPerDay).not.toBeNull()
        const inDays = fullAt === null ? 0 : (fullAt - newest) / DAY_MS
        expect(inDays).toBeGreaterThanOrEqual(0)
        expect(inDays).toBeLessThanOrEqual(3650)
        expect(fullAt === null || growthBytesPerDay! > 0).toBe(true)
      }),
    )
  })

  test('their order does not matter', () => {
    const fixed = daily(1, 5, 3, 8, 9, 2)
    assert(
      property(shuffledSubarray(fixed, { minLength: fixed.length }), (shuffled) => {
        expect(forecastFull(shuffled)).toEqual(forecastFull(fixed))
      }),
    )
  })

  test('steady growth from any beginning is found', () => {
    assert(
      property(integer({ min: 1, max: 10 * GIB }), integer({ min: 0, max: 100 * GIB }), (perDay, begin) => {
        const samples = Array.from({ length: 30 }, (_, day) => sample(day, begin + day * perDay))
        const found = forecastFull(samples).growthBytesPerDay!
        expect(Math.abs(found - perDay)).toBeLessThanOrEqual(1)
      }),
    )
  })
})
