import { randomUUID } from 'node:crypto'
import { symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { holdingDisk, holdingDisks, holdingTarget } from './attempt-lock.ts'

describe('two attempts at one disk', () => {
  test('never overlap', async () => {
    const backupId = randomUUID()
    let inside = 0
    let most = 0
    const attempt = () =>
      holdingDisk(backupId, 0, async () => {
        most = Math.max(most, ++inside)
        await new Promise((resolve) => setTimeout(resolve, 20))
        inside--
      })
    await Promise.all([attempt(), attempt(), attempt()])
    expect(most).toBe(1)
  })

  test('the second is told to come again when the first does not end', async () => {
    const backupId = randomUUID()
    const ended = Promise.withResolvers<void>()
    const first = holdingDisk(backupId, 0, () => ended.promise)
    const second = holdingDisk(backupId, 0, async () => undefined, { patienceMs: 50 })
    expect(await failureOf(second)).toMatchObject({ code: 'SOURCE_BUSY', retryable: true })
    ended.resolve()
    await first
    await holdingDisk(backupId, 0, async () => undefined, { patienceMs: 0 })
  })

  test('waiting ends with a cancellation', async () => {
    const backupId = randomUUID()
    const ended = Promise.withResolvers<void>()
    const first = holdingDisk(backupId, 0, () => ended.promise)
    const second = holdingDisk(backupId, 0, async () => undefined, { signal: AbortSignal.abort(new Error('cancelled')) })
    await expect(second).rejects.toThrow('cancelled')
    ended.resolve()
    await first
  })
})

test('other disks are not in the way, and the lock goes with a failure', async () => {
  const backupId = randomUUID()
  await expect(holdingDisks(backupId, [0, 1], () => Promise.reject(new Error('x')))).rejects.toThrow('x')
  const result = holdingDisk(backupId, 0, () => holdingDisk(backupId, 1, async () => 'both', { patienceMs: 0 }), {
    patienceMs: 0,
  })
  expect(await result).toBe('both')
})

test('two restores never write to one file, whatever path leads to it', async () => {
  const folder = await temporaryFolder()
  await symlink(folder, join(folder, 'link'))
  const ended = Promise.withResolvers<void>()
  const first = holdingTarget(join(folder, 'disk.raw'), () => ended.promise)
  const inside = holdingTarget(join(folder, 'link', 'disk.raw'), async () => undefined, { patienceMs: 50 })
  expect(await failureOf(inside)).toMatchObject({ code: 'RESTORE_TARGET_EXISTS', retryable: false })
  const beside = holdingTarget(join(folder, 'link', 'other.raw'), async () => 'written', { patienceMs: 0 })
  expect(await beside).toBe('written')
  ended.resolve()
  await first
  await holdingTarget(join(folder, 'disk.raw'), async () => undefined, { patienceMs: 0 })
  const nowhere = holdingTarget(join(folder, 'missing', 'disk.raw'), async () => 'refused by the restore', { patienceMs: 0 })
  expect(await nowhere).toBe('refused by the restore')
})
