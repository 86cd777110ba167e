import { describe, expect, it } from 'vitest'
import { outstandingBytes, roomToGoOnBytes, storageReserveBytes } from './storage.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB
const big = { totalBytes: 1024 * GIB }

describe('what is kept free', () => {
  it.each([
    [1024 * GIB, 256 * MIB],
    [6 * GIB, 256 * MIB],
    [100 * MIB, 5 * MIB],
    [0, 0],
  ])('of %i bytes are %i', (totalBytes, expected) => {
    expect(storageReserveBytes({ totalBytes })).toBe(expected)
  })
})

describe('what a backup may still write', () => {
  it.each([
    ['all of it at first', { reservedBytes: 100, writtenBytes: 0, unreadBytes: 200 }, 100],
    ['less what it has written', { reservedBytes: 100, writtenBytes: 30, unreadBytes: 200 }, 70],
    ['no more than it has yet to read', { reservedBytes: 100, writtenBytes: 30, unreadBytes: 10 }, 10],
    ['never less than nothing', { reservedBytes: 100, writtenBytes: 130, unreadBytes: 10 }, 0],
  ])('%s', (_, reservation, expected) => {
    expect(outstandingBytes({ backupId: 'backup-a', ...reservation })).toBe(expected)
  })
})

describe('a parked backup goes on', () => {
  const room = (left: { reservedBytes: number; writtenBytes: number; unreadBytes: number }) =>
    roomToGoOnBytes({ backupId: 'backup-a', ...left }, big) - storageReserveBytes(big)

  it('with room for a quarter of what is left', () => {
    expect(room({ reservedBytes: 100 * GIB, writtenBytes: 20 * GIB, unreadBytes: 400 * GIB })).toBe(20 * GIB)
  })

  it('with room for a little at least, but never more than for what is left', () => {
    expect(room({ reservedBytes: 100 * MIB, writtenBytes: 0, unreadBytes: 400 * MIB })).toBe(64 * MIB)
    expect(room({ reservedBytes: 100 * MIB, writtenBytes: 90 * MIB, unreadBytes: 10 * MIB })).toBe(10 * MIB)
  })

  it('with room for a little when its estimate is used up', () => {
    expect(room({ reservedBytes: 10 * MIB, writtenBytes: 30 * MIB, unreadBytes: 400 * GIB })).toBe(64 * MIB)
  })

  it('with next to nothing when only its manifest is left', () => {
    expect(roomToGoOnBytes({ backupId: 'backup-a', reservedBytes: 10, writtenBytes: 9, unreadBytes: 0 }, big)).toBe(MIB)
  })
})
