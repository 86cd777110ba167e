import { describe, expect, test } from 'vitest'
import { lockDays, lockEnd, lockEnds, retainedUntil } from './immutability.ts'
import type { RetainedBackup, RetentionRules } from './immutability.ts'

const day = (number: number): Date => new Date(Date.UTC(2026, 0, number))

const rules = (change: Partial<RetentionRules> = {}): RetentionRules => ({
  isImmutable: true,
  retentionPeriodDays: 10,
  minRetentionDays: null,
  ...change,
})

function backup(
  id: string,
  publishedDay: number,
  parentBackupId: string | null = null,
  lockedUntil: Date | null = null,
): RetainedBackup {
  return { id, parentBackupId, publishedAt: day(publishedDay), lockedUntil }
}

test('a lock ends so many days after publication', () => {
  expect(lockEnd(day(1), { retentionPeriodDays: 30 })).toEqual(day(31))
})

test.each([
  [rules(), 10],
  [rules({ minRetentionDays: 14 }), 14],
  [rules({ minRetentionDays: 3 }), 10],
  [rules({ retentionPeriodDays: null }), 1],
  [rules({ isImmutable: false }), null],
])('%o locks for %o days', (given, days) => {
  expect(lockDays(given)).toBe(days)
})

describe('the ends of locks', () => {
  const chain = [backup('full', 1), backup('one', 2, 'full'), backup('two', 5, 'one'), backup('other', 3)]
  const ends = (backups: RetainedBackup[], given: RetentionRules, now: Date) => Object.fromEntries(lockEnds(backups, given, now))

  test('are those of the latest dependent', () => {
    expect(ends(chain, rules(), day(6))).toEqual({ full: day(15), one: day(15), two: day(15), other: day(13) })
  })

  test('leave out what has ended', () => {
    expect(ends(chain, rules(), day(14))).toEqual({ full: day(15), one: day(15), two: day(15) })
    expect(ends(chain, rules(), day(15))).toEqual({})
  })

  test('never come nearer: neither by milder rules nor by rules that are gone', () => {
    const locked = [backup('full', 1, null, day(20)), backup('one', 2, 'full', day(25))]
    expect(ends(locked, rules(), day(3))).toEqual({ full: day(25), one: day(25) })
    expect(ends(locked, rules({ isImmutable: false }), day(3))).toEqual({ full: day(25), one: day(25) })
  })

  test('move away with stricter rules', () => {
    expect(ends([backup('full', 1, null, day(11))], rules({ retentionPeriodDays: 60 }), day(2))).toEqual({
      full: lockEnd(day(1), { retentionPeriodDays: 60 }),
    })
  })

  test('are found in data that goes in circles', () => {
    expect(ends([backup('a', 1, 'b'), backup('b', 2, 'a')], rules(), day(3))).toEqual({ a: day(12), b: day(12) })
  })

  test('are none where nothing is locked', () => {
    expect(ends(chain, rules({ isImmutable: false }), day(2))).toEqual({})
  })
})

test.each([
  ['no rule, no lock', null, null, 1, null],
  ['a lock that lasts', day(11), null, 10, day(11)],
  ['a lock that ends this very moment', day(11), null, 11, null],
  ['the least age, without a lock', null, 5, 5, day(6)],
  ['the least age is reached', null, 5, 6, null],
  ['the later of the two: the lock', day(11), 5, 2, day(11)],
  ['the later of the two: the age', day(3), 5, 2, day(6)],
])('kept back by %s', (_, lockedUntil, minRetentionDays, today, expected) => {
  const given = rules({ isImmutable: false, minRetentionDays })
  expect(retainedUntil({ publishedAt: day(1), lockedUntil }, given, day(today))).toEqual(expected)
})

test('kept back by the lock that it should have, while nothing locked it', () => {
  const unlocked = { publishedAt: day(1), lockedUntil: null }
  expect(retainedUntil(unlocked, rules(), day(10))).toEqual(day(11))
  expect(retainedUntil(unlocked, rules(), day(11))).toBeNull()
})
