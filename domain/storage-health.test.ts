import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AlertKind } from './alerts.ts'
import {
  DEFAULT_THRESHOLDS,
  healthNow,
  judgeLook,
  staleAfterMs,
  storageAlertKinds,
  usedInodesPercentage,
  usedPercentage,
} from './storage-health.ts'
import type { EarlierHealth, HealthVerdict, StorageLook, Thresholds } from './storage-health.ts'
import type { StorageInfo } from './storage.ts'

const GIB = 1024 ** 3

/** 100 GiB, so full, and 5 GiB more that only root may use. */
function disk(percent: number, more: Partial<StorageInfo> = {}): StorageInfo {
  const usedBytes = Math.round(percent * GIB)
  return {
    totalBytes: 105 * GIB,
    usedBytes,
    availableBytes: 100 * GIB - usedBytes,
    totalInodes: 1000,
    usedInodes: 10,
    writable: true,
    ...more,
  }
}

const seen = (storage: StorageInfo): StorageLook => ({ reached: true, storage, latencyMs: 3 })
const away: StorageLook = { reached: false, code: 'REPO_UNAVAILABLE', message: 'no answer within 10 s', latencyMs: 10_000 }

/** As the catalog does it: what is open is open, what is unknown stays, the rest is over. */
function follow(looks: StorageLook[], thresholds: Thresholds = DEFAULT_THRESHOLDS): string[] {
  let earlier: EarlierHealth = { stopped: false, alerts: new Set() }
  return looks.map((look) => {
    const verdict = judgeLook(look, earlier, thresholds)
    earlier = { stopped: verdict.stopped, alerts: alertsAfter(earlier, verdict) }
    return [verdict.health, verdict.stopped ? 'stopped' : 'open', ...[...earlier.alerts].toSorted()].join(' ')
  })
}

function alertsAfter({ alerts }: EarlierHealth, { open, unknown }: HealthVerdict): ReadonlySet<AlertKind> {
  const kept = [...alerts].filter((kind) => unknown.some((one) => one === kind))
  return new Set<AlertKind>([...kept, ...open.map(({ kind }) => kind)])
}

const full = (percent: number, more: Partial<StorageInfo> = {}) => seen(disk(percent, more))

describe('how full it is', () => {
  test.each([
    [disk(40), 40],
    [disk(89.99), 89.9],
    [disk(90), 90],
    [disk(100), 100],
    [{ usedBytes: 105 * GIB, availableBytes: 0 }, 100],
    [{ usedBytes: 0, availableBytes: 0 }, 0],
    [{ usedBytes: 4294967296000, availableBytes: 6442450944000 }, 40],
  ])('%j: %d %%', (storage, expected) => {
    expect(usedPercentage(storage)).toBe(expected)
  })

  test('is unknown of inodes that are not counted', () => {
    expect(usedInodesPercentage({ usedInodes: 0, totalInodes: 0 })).toBe(0)
    expect(usedInodesPercentage({ usedInodes: 901, totalInodes: 1000 })).toBe(90.1)
  })
})

describe('looks one after the other', () => {
  test.each<[string, StorageLook[], string[]]>([
    ['below', [full(0), full(50), full(89.9)], ['healthy open', 'healthy open', 'healthy open']],
    [
      '90 % warns, below it is over',
      [full(90), full(94.9), full(89.9)],
      ['warning open storage_warning', 'warning open storage_warning', 'healthy open'],
    ],
    [
      '95 % stops, and only below 90 % it goes on',
      [full(94.9), full(95), full(94), full(90), full(89.9)],
      [
        'warning open storage_warning',
        'critical stopped storage_critical',
        'critical stopped storage_critical',
        'critical stopped storage_critical',
        'healthy open',
      ],
    ],
    [
      'around 95 % one alert stays open',
      [full(95.1), full(94.9), full(95.1), full(94.9)],
      Array.from({ length: 4 }, () => 'critical stopped storage_critical'),
    ],
    [
      'inodes count like space',
      [full(10, { usedInodes: 920 }), full(10, { usedInodes: 999 })],
      ['warning open storage_warning', 'critical stopped storage_critical'],
    ],
    [
      'a disk so full that it takes no file is full, not read-only',
      [full(100, { writable: false })],
      ['critical stopped storage_critical'],
    ],
    ['without a free inode, too', [full(10, { usedInodes: 1000, writable: false })], ['critical stopped storage_critical']],
    [
      'read-only stops it, until it takes files again',
      [full(40), full(40, { writable: false }), full(40, { writable: false }), full(40)],
      ['healthy open', 'critical stopped repository_read_only', 'critical stopped repository_read_only', 'healthy open'],
    ],
    [
      'read-only at 92 %, then writable: it was never too full',
      [full(92), full(92, { writable: false }), full(92)],
      ['warning open storage_warning', 'critical stopped repository_read_only storage_warning', 'warning open storage_warning'],
    ],
    [
      'read-only and too full, then writable at 92 %: still too full',
      [full(96, { writable: false }), full(92), full(89)],
      ['critical stopped repository_read_only storage_critical', 'critical stopped storage_critical', 'healthy open'],
    ],
    [
      'takes no files without being full, as with a quota',
      [full(0, { usedBytes: 0, availableBytes: 0, writable: false })],
      ['critical stopped repository_read_only'],
    ],
    [
      'offline and back: how full it is stays as it was meanwhile',
      [full(92), away, away, full(92)],
      [
        'warning open storage_warning',
        'offline open repository_offline storage_warning',
        'offline open repository_offline storage_warning',
        'warning open storage_warning',
      ],
    ],
    [
      'stopped, offline, back at 92 % and then empty',
      [full(97), away, full(92), full(10)],
      [
        'critical stopped storage_critical',
        'offline stopped repository_offline storage_critical',
        'critical stopped storage_critical',
        'healthy open',
      ],
    ],
  ])('%s', (_, looks, expected) => {
    expect(follow(looks)).toEqual(expected)
  })

  test('with thresholds of its own', () => {
    const thresholds = { warningPercent: 50, criticalPercent: 60 }
    expect(follow([full(49), full(55), full(60), full(55), full(49)], thresholds)).toEqual([
      'healthy open',
      'warning open storage_warning',
      'critical stopped storage_critical',
      'critical stopped storage_critical',
      'healthy open',
    ])
  })

  test('whoever stopped it, it goes on below the lower threshold only', () => {
    const stopped: EarlierHealth = { stopped: true, alerts: new Set() }
    expect(judgeLook(full(92), stopped, DEFAULT_THRESHOLDS)).toMatchObject({ stopped: true, health: 'critical' })
    expect(judgeLook(full(89), stopped, DEFAULT_THRESHOLDS)).toMatchObject({ stopped: false, health: 'healthy', message: null })
  })
})

test('what people read says how much is used, of what, and what follows', () => {
  const fresh: EarlierHealth = { stopped: false, alerts: new Set() }
  const messageOf = (look: StorageLook) => judgeLook(look, fresh, DEFAULT_THRESHOLDS).message
  expect(messageOf(full(92.34))).toMatch(/^92\.3 % of the space is used\. From 95 % on it takes no new backups/)
  expect(messageOf(full(10, { usedInodes: 961 }))).toMatch(
    /^96\.1 % of the inodes is used\. It takes no new backups until less than 90 %/,
  )
  expect(messageOf(full(10, { writable: false }))).toMatch(/^It can be read but takes no files/)
  expect(messageOf(away)).toBe('no answer within 10 s')
  expect(judgeLook(away, fresh, DEFAULT_THRESHOLDS).open).toMatchObject([{ details: { error_code: 'REPO_UNAVAILABLE' } }])
})

describe('whatever the looks', () => {
  const anyLook: fc.Arbitrary<StorageLook> = fc.oneof(
    fc.constant(away),
    fc
      .record({ percent: fc.double({ min: 0, max: 100, noNaN: true }), writable: fc.boolean(), usedInodes: fc.nat(1000) })
      .map(({ percent, ...more }) => full(percent, more)),
  )
  const rank = { healthy: 0, warning: 1, critical: 2 }

  test('stopped goes with critical, and with nothing else that is reached', () => {
    fc.assert(
      fc.property(fc.array(anyLook, { maxLength: 30 }), (looks) => {
        const reached = follow(looks).filter((_, index) => looks[index]?.reached)
        const stopped = reached.filter((state) => state.includes(' stopped'))
        expect(stopped).toEqual(reached.filter((state) => state.startsWith('critical')))
      }),
    )
  })

  test('the same look again changes nothing, and opens nothing more', () => {
    fc.assert(
      fc.property(fc.array(anyLook, { maxLength: 10 }), anyLook, (before, look) => {
        const [once, twice] = follow([...before, look, look]).slice(-2)
        expect(twice).toBe(once)
      }),
    )
  })

  test('a fuller disk is never in better health', () => {
    const percent = fc.double({ min: 0, max: 100, noNaN: true })
    fc.assert(
      fc.property(percent, percent, fc.boolean(), (one, other, stopped) => {
        const earlier: EarlierHealth = { stopped, alerts: new Set(stopped ? (['storage_critical'] as const) : []) }
        const [less, more] = [Math.min(one, other), Math.max(one, other)].map(
          (percent) => judgeLook(full(percent), earlier, DEFAULT_THRESHOLDS).health as keyof typeof rank,
        )
        expect(rank[more!]).toBeGreaterThanOrEqual(rank[less!])
      }),
    )
  })

  test('every alert that looks open is one that looks resolve', () => {
    fc.assert(
      fc.property(anyLook, (look) => {
        const { open } = judgeLook(look, { stopped: false, alerts: new Set() }, DEFAULT_THRESHOLDS)
        for (const { kind } of open) expect(storageAlertKinds).toContain(kind)
      }),
    )
  })
})

describe('what was found long ago', () => {
  const lookedAt = new Date('2026-02-01T12:00:00Z')
  const known = { message: null, since: new Date('2026-01-01T00:00:00Z'), lookedAt, isLeftAlone: false }

  test('is believed for three intervals, and a quarter of an hour at least', () => {
    expect([5, 300, 3_600].map(staleAfterMs)).toEqual([900_000, 900_000, 10_800_000])
  })

  test.each(['healthy', 'warning'] as const)('and was %s is unknown now; until then it is what it was', (health) => {
    expect(healthNow({ ...known, health }, lookedAt)).toMatchObject({ health, message: null })
    expect(healthNow({ ...known, health }, new Date(lookedAt.getTime() + 1))).toMatchObject({
      health: 'unknown',
      message: expect.stringContaining('since 2026-02-01T12:00:00.000Z'),
      since: lookedAt,
    })
  })

  test.each(['critical', 'offline'] as const)('and was %s stays so', (health) => {
    const found = { ...known, health, message: 'Bad.' }
    expect(healthNow(found, new Date())).toEqual({ health, message: 'Bad.', since: known.since })
  })

  test('before anybody looked says nothing, and of a share that is switched off why', () => {
    const never = { ...known, health: 'unknown' as const, lookedAt: null }
    expect(healthNow(never, new Date())).toMatchObject({ health: 'unknown', message: null })
    expect(healthNow({ ...never, isLeftAlone: true }, new Date()).message).toContain('switched off')
  })
})
