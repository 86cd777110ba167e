import { expect, it } from 'vitest'
import type { ErrorCode } from './errors.ts'
import { parkedReasonOf } from './parking.ts'

it.each<[ErrorCode, string | null]>([
  ['REPO_UNAVAILABLE', 'repository_unavailable'],
  ['REPO_AUTHENTICATION_FAILED', 'repository_unavailable'],
  ['REPO_BUSY', 'repository_unavailable'],
  ['INSUFFICIENT_STORAGE', null],
  ['DISK_WRITE_FAILED', null],
  ['SOURCE_CHANGED', null],
  ['CANCELLED', null],
])('%s parks a backup as %s', (code, reason) => {
  expect(parkedReasonOf({ code, details: { folder: '/var/tmp' } })).toBe(reason)
})

it('a full repository parks it; anything else that is full does not', () => {
  expect(parkedReasonOf({ code: 'INSUFFICIENT_STORAGE', details: { repository_id: 'repo-a' } })).toBe('repository_full')
  expect(parkedReasonOf({ code: 'INSUFFICIENT_STORAGE', details: { folder: '/var/tmp' } })).toBeNull()
})
