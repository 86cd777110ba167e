/**
 * Memory shared with the reader, through which pages of folders and pieces of files come: a file of the room that the reader's kernel shows as `/dev/mmapper`.
 * It is parted into slots. A request holds one until it is answered and what came is copied out.
 */
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { senseless } from './protocol.ts'

export const SLOT_BYTES = 2 * 1024 * 1024
/** Pieces of files asked for at a time: enough to keep reader and copying busy, and so few that a listing waits for no more than these. */
const PIECE_SLOTS = 4
/** Listings and looks at a time. */
const PAGE_SLOTS = 2
export const WINDOW_BYTES = (PIECE_SLOTS + PAGE_SLOTS) * SLOT_BYTES

export interface Slot {
  /** Where it begins in the window, in bytes. */
  readonly offset: number
}

/** Slots for one kind of use, given in the order of asking. */
export class SlotPool {
  readonly #free: Slot[]
  #waiting: { give: (slot: Slot) => void; refuse: (reason: unknown) => void }[] = []

  constructor(first: number, count: number) {
    this.#free = Array.from({ length: count }, (_, index) => ({ offset: (first + index) * SLOT_BYTES }))
  }

  /** Waits for its turn; rejects with the signal's reason as soon as that aborts, and holds nothing then. */
  async take(signal?: AbortSignal): Promise<Slot> {
    signal?.throwIfAborted()
    const slot = this.#free.pop()
    if (slot) return slot
    const { promise, resolve, reject } = Promise.withResolvers<Slot>()
    const waiter = { give: resolve, refuse: reject }
    this.#waiting.push(waiter)
    const leave = (): void => {
      this.#waiting = this.#waiting.filter((other) => other !== waiter)
      reject(signal?.reason)
    }
    signal?.addEventListener('abort', leave, { once: true })
    try {
      return await promise
    } finally {
      signal?.removeEventListener('abort', leave)
    }
  }

  give(slot: Slot): void {
    const next = this.#waiting.shift()
    if (next) next.give(slot)
    else this.#free.push(slot)
  }
}

export class Window {
  readonly pieces = new SlotPool(0, PIECE_SLOTS)
  readonly pages = new SlotPool(PIECE_SLOTS, PAGE_SLOTS)
  readonly #file: FileHandle

  private constructor(file: FileHandle) {
    this.#file = file
  }

  /** Makes the file, for `owner` only. */
  static async create(path: string, owner: { uid: number; gid: number }): Promise<Window> {
    const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
    try {
      await file.truncate(WINDOW_BYTES)
      await file.chown(owner.uid, owner.gid)
      return new Window(file)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** A copy of the slot's first bytes. `MOUNT_INTERRUPTED` when the reader claims more than a slot holds, or has cut the window. */
  async copy(slot: Slot, length: number): Promise<Buffer> {
    if (length > SLOT_BYTES) throw senseless(`${length} bytes in a slot of ${SLOT_BYTES}`)
    const bytes = Buffer.allocUnsafe(length)
    for (let done = 0; done < length;) {
      const { bytesRead } = await this.#file.read(bytes, done, length - done, slot.offset + done)
      if (bytesRead === 0) throw senseless('a window that was cut')
      done += bytesRead
    }
    return bytes
  }

  /** For a request that is too long for the line; the reader takes it before it writes its answer there. */
  async put(slot: Slot, bytes: Uint8Array): Promise<void> {
    if (bytes.length > SLOT_BYTES) throw new RangeError('a request that is longer than a slot')
    for (let done = 0; done < bytes.length;) {
      done += (await this.#file.write(bytes, done, bytes.length - done, slot.offset + done)).bytesWritten
    }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}
