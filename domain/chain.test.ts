import { describe, expect, test } from 'vitest'
import { CHAIN_LENGTH_MAX, chainOf, decideBackup, decideDisk, dependentsOf, isWholeChain } from './chain.ts'
import type { ChainBackup, Tracking } from './chain.ts'

const tracked: Tracking = { state: 'tracked', changedBytes: 4096 }

function backup(id: string, parentBackupId: string | null, changes: Partial<ChainBackup> = {}): ChainBackup {
  const backupType = parentBackupId === null ? 'full' : 'incremental'
  return { id, parentBackupId, backupType, state: 'completed', verification: 'unverified', disks: [], ...changes }
}

/** Oldest first: b0 is the full. */
function chain(length: number): ChainBackup[] {
  return Array.from({ length }, (_, index) => backup(`b${index}`, index === 0 ? null : `b${index - 1}`))
}

function byId(backups: readonly ChainBackup[]): Map<string, ChainBackup> {
  return new Map(backups.map((one) => [one.id, one]))
}

describe('a chain', () => {
  test('leads from the full to the backup', () => {
    const backups = chain(4)
    expect(chainOf('b2', byId(backups)).map((one) => one.id)).toEqual(['b0', 'b1', 'b2'])
    expect(isWholeChain(chainOf('b2', byId(backups)))).toBe(true)
  })

  test('is not whole without its full, with an unfinished link, or when it is empty', () => {
    expect(isWholeChain(chainOf('b2', byId(chain(3).slice(1))))).toBe(false)
    const unfinished = chain(3).map((one) => (one.id === 'b1' ? { ...one, state: 'failed' as const } : one))
    expect(isWholeChain(chainOf('b2', byId(unfinished)))).toBe(false)
    expect(isWholeChain([])).toBe(false)
  })

  test('that goes round ends, and is not whole', () => {
    const round = [backup('a', 'b'), backup('b', 'a')]
    expect(chainOf('a', byId(round))).toHaveLength(2)
    expect(isWholeChain(chainOf('a', byId(round)))).toBe(false)
  })

  test('names everything that depends on a link, in whatever order it is given', () => {
    const backups = [...chain(4), backup('side', 'b1')]
    expect(dependentsOf('b1', backups.toReversed())).toEqual(['side', 'b3', 'b2'])
    expect(dependentsOf('b3', backups)).toEqual([])
  })
})

describe('what a backup becomes', () => {
  test('a full when one is asked for, whatever there is', () => {
    expect(decideBackup('full', chain(2).toReversed())).toMatchObject({ backupType: 'full', fullReason: 'requested' })
  })

  test('a full when nothing was completed', () => {
    const failed = [backup('b1', null, { state: 'failed' })]
    expect(decideBackup('incremental', [])).toMatchObject({ fullReason: 'first_backup' })
    expect(decideBackup('incremental', failed)).toMatchObject({ fullReason: 'first_backup' })
  })

  test('an incremental on the newest completed, over failed ones', () => {
    const newestFirst = [backup('b2', 'b1', { state: 'cancelled' }), ...chain(2).toReversed()]
    expect(decideBackup('incremental', newestFirst)).toEqual({ backupType: 'incremental', parentBackupId: 'b1', chainLength: 3 })
  })

  test('a full when any link failed verification, or is gone', () => {
    const damaged = chain(3).map((one) => (one.id === 'b0' ? { ...one, verification: 'failed' as const } : one))
    expect(decideBackup('incremental', damaged.toReversed())).toMatchObject({
      fullReason: 'parent_failed_verification',
      detail: expect.stringContaining('b0'),
    })
    expect(decideBackup('incremental', chain(3).slice(1).toReversed())).toMatchObject({ fullReason: 'parent_missing' })
  })

  test('a full when the chain has its greatest length, and not one backup earlier', () => {
    expect(decideBackup('incremental', chain(CHAIN_LENGTH_MAX).toReversed())).toMatchObject({ fullReason: 'chain_limit' })
    expect(decideBackup('incremental', chain(CHAIN_LENGTH_MAX - 1).toReversed())).toMatchObject({
      backupType: 'incremental',
      chainLength: CHAIN_LENGTH_MAX,
    })
  })
})

describe('what one disk becomes', () => {
  const parent = backup('b0', null, {
    disks: [
      { index: 0, key: 'vda', sizeBytes: 1000 },
      { index: 1, key: 'vdb', sizeBytes: 2000 },
    ],
  })

  test('an incremental on the parent disk of its key, wherever that stood, also when it has grown', () => {
    expect(decideDisk({ index: 0, key: 'vdb', sizeBytes: 2000 }, parent, tracked, parent.disks)).toEqual({
      backupType: 'incremental',
      parentDiskIndex: 1,
    })
    expect(decideDisk({ index: 0, key: 'vda', sizeBytes: 1001 }, parent, tracked, parent.disks)).toMatchObject({
      backupType: 'incremental',
    })
  })

  test('an incremental that is read whole where nothing tracks it', () => {
    const untracked: Tracking = { state: 'untracked', detail: 'raw' }
    expect(decideDisk({ index: 0, key: 'vda', sizeBytes: 1000 }, parent, untracked, parent.disks)).toMatchObject({
      backupType: 'incremental',
    })
  })

  test('a disk that moved another from its place was added, not put in its stead', () => {
    const added = { index: 0, key: 'sda', sizeBytes: 1 }
    const present = [added, { index: 1, key: 'vda', sizeBytes: 1000 }]
    expect(decideDisk(added, parent, tracked, present)).toMatchObject({ fullReason: 'disk_added' })
  })

  test.each([
    ['disk_added', { index: 2, key: 'vdc', sizeBytes: 1 }, tracked],
    ['disk_replaced', { index: 1, key: 'vdx', sizeBytes: 2000 }, tracked],
    ['disk_shrunk', { index: 0, key: 'vda', sizeBytes: 999 }, tracked],
    [
      'bitmap_lost',
      { index: 0, key: 'vda', sizeBytes: 1000 },
      { state: 'lost', fullReason: 'bitmap_lost', detail: 'QEMU crashed' },
    ],
    [
      'checkpoint_missing',
      { index: 0, key: 'vda', sizeBytes: 1000 },
      { state: 'lost', fullReason: 'checkpoint_missing', detail: 'unknown to libvirt' },
    ],
    // What the disk is counts before what is known of its changes.
    ['disk_shrunk', { index: 0, key: 'vda', sizeBytes: 999 }, { state: 'lost', fullReason: 'bitmap_lost', detail: 'x' }],
  ] as const)('a full for itself alone: %s', (fullReason, disk, tracking) => {
    const decision = decideDisk(disk, parent, tracking, [disk])
    expect(decision).toMatchObject({ backupType: 'full', fullReason })
    expect(decision).toHaveProperty('detail', expect.stringMatching(/./))
  })
})
