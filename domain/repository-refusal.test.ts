import { describe, expect, test } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { refuseUnlessOpen, refuseUnlessReady } from './repository-refusal.ts'
import type { RepositoryStanding } from './repository-refusal.ts'

const ready: RepositoryStanding = {
  id: 'repo-1',
  name: 'Primary',
  enabled: true,
  stopped_at: null,
  health: 'healthy',
  health_message: null,
  used_size_bytes: 961,
  available_size_bytes: 39,
}
const stopped = { stopped_at: new Date('2026-02-01T12:00:00Z'), health: 'critical', health_message: 'It is full.' } as const
const refusalOf = (change: Partial<RepositoryStanding>, refuse = refuseUnlessReady) =>
  failureOf((async () => refuse({ ...ready, ...change }))())

describe('a repository takes new backups', () => {
  test.each(['unknown', 'healthy', 'warning', 'critical'] as const)('while it is %s and nobody stopped it', (health) => {
    expect(() => refuseUnlessReady({ ...ready, health })).not.toThrow()
  })

  test('but not when an administrator switched it off, whatever else it is', async () => {
    expect((await refusalOf({ enabled: false, ...stopped })).code).toBe('REPO_DISABLED')
  })

  test('but not when it is stopped, with how full it is', async () => {
    const { code, message, details } = await refusalOf(stopped)
    expect([code, message, details]).toEqual([
      'REPO_CRITICAL',
      'Repository "Primary" takes no new backups: It is full.',
      { repository_id: 'repo-1', used_percentage: 96.1, stopped_at: '2026-02-01T12:00:00.000Z' },
    ])
    expect((await refusalOf({ ...stopped, health: 'offline' }, refuseUnlessOpen)).code).toBe('REPO_CRITICAL')
  })

  test('but not when it is offline, and that is no reason to wait; who will see for himself may try', async () => {
    const { code, message, retryable } = await refusalOf({ health: 'offline', health_message: 'No answer.' })
    expect([code, message, retryable]).toEqual(['REPO_UNAVAILABLE', 'Repository "Primary" cannot be reached: No answer.', false])
    expect(() => refuseUnlessOpen({ ...ready, health: 'offline' })).not.toThrow()
  })
})
