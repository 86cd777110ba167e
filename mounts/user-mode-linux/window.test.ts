import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { temporaryFolder } from '../../test/temporary-folder.ts'
import { SLOT_BYTES, SlotPool, Window, WINDOW_BYTES } from './window.ts'

async function windowOf(path: string): Promise<Window> {
  const window = await Window.create(path, { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 })
  onTestFinished(() => window.close())
  return window
}

it('gives slots in the order of asking, none twice', async () => {
  const pool = new SlotPool(3, 2)
  const [first, second] = [await pool.take(), await pool.take()]
  expect([first.offset, second.offset].toSorted((one, other) => one - other)).toEqual([3 * SLOT_BYTES, 4 * SLOT_BYTES])
  const order: string[] = []
  const waiting = ['third', 'fourth'].map(async (name) => {
    const slot = await pool.take()
    order.push(name)
    return slot
  })
  pool.give(second)
  expect(await waiting[0]).toBe(second)
  expect(order).toEqual(['third'])
  pool.give(first)
  expect(await waiting[1]).toBe(first)
})

it('takes no slot for somebody who has left', async () => {
  const pool = new SlotPool(0, 1)
  const slot = await pool.take()
  const controller = new AbortController()
  const reason = new Error('enough')
  const left = pool.take(controller.signal)
  const patient = pool.take()
  controller.abort(reason)
  await expect(left).rejects.toBe(reason)
  pool.give(slot)
  expect(await patient).toBe(slot)
  await expect(pool.take(AbortSignal.abort(reason))).rejects.toBe(reason)
})

it('copies a slot, and keeps nothing of what the reader writes later', async () => {
  const path = join(await temporaryFolder(), 'window')
  const window = await windowOf(path)
  const slot = await window.pages.take()
  await writeFile(path, Buffer.concat([Buffer.alloc(slot.offset), Buffer.from('before')]), { flag: 'r+' })
  const copied = await window.copy(slot, 6)
  await writeFile(path, Buffer.alloc(WINDOW_BYTES), { flag: 'r+' })
  expect(copied.toString()).toBe('before')
})

it('reads nothing outside of a slot, nor of a window that was cut', async () => {
  const path = join(await temporaryFolder(), 'window')
  const window = await windowOf(path)
  const slot = await window.pieces.take()
  await expect(window.copy(slot, SLOT_BYTES + 1)).rejects.toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  await truncate(path, slot.offset + 10)
  await expect(window.copy(slot, 11)).rejects.toMatchObject({ code: 'MOUNT_INTERRUPTED' })
})

it('takes no file that is there already', async () => {
  const path = join(await temporaryFolder(), 'window')
  await writeFile(path, 'mine')
  await expect(windowOf(path)).rejects.toMatchObject({ code: 'EEXIST' })
})
