import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { AccessNotes } from './access-notes.ts'
import type { AccessNote } from './access-notes.ts'

const logger = pino({ level: 'silent' })
beforeEach(() => void vi.useFakeTimers({ now: 1_000 }))
afterEach(() => void vi.useRealTimers())

function notesInto(written: AccessNote[][], fail: () => boolean = () => false): AccessNotes {
  return new AccessNotes({
    now: () => new Date(),
    logger,
    write: async (notes) => {
      if (fail()) throw new Error('the catalog is away')
      written.push([...notes])
    },
  })
}

describe('accesses of mounts', () => {
  it('are written every few seconds, the last one of each mount', async () => {
    const written: AccessNote[][] = []
    const notes = notesInto(written)
    notes.note('a')
    await vi.advanceTimersByTimeAsync(2_000)
    notes.note('b')
    notes.note('a')
    expect(written).toEqual([])
    await vi.advanceTimersByTimeAsync(10_000)
    expect(written).toEqual([
      [
        { mountId: 'a', at: new Date(3_000) },
        { mountId: 'b', at: new Date(3_000) },
      ],
    ])
    await notes.close()
    expect(written).toHaveLength(1)
  })

  it('are kept while the catalog is away, and never made older', async () => {
    const written: AccessNote[][] = []
    let away = true
    const notes = notesInto(written, () => away)
    notes.note('a')
    notes.note('b')
    const flushing = notes.flush()
    await vi.advanceTimersByTimeAsync(1)
    notes.note('b')
    await flushing
    away = false
    await vi.advanceTimersByTimeAsync(5_000)
    expect(written).toEqual([
      [
        { mountId: 'a', at: new Date(1_000) },
        { mountId: 'b', at: new Date(1_001) },
      ],
    ])
    await notes.close()
  })

  it('are written a last time when it ends', async () => {
    const written: AccessNote[][] = []
    const notes = notesInto(written)
    notes.note('a')
    await notes.close()
    expect(written).toEqual([[{ mountId: 'a', at: new Date(1_000) }]])
    expect(vi.getTimerCount()).toBe(0)
  })
})
