/** Reads files through a kernel of our own: the `FileReader` that speaks with it. */
import { HoldfastError } from '../../domain/errors.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import { fileError } from '../file-errors.ts'
import { nameToBytes } from '../file-names.ts'
import type { ByteRange, Entry, EntryPage, FileReader, FileStatus } from '../file-reader.ts'
import { untilAborted } from '../until-aborted.ts'
import { entriesIn, statusIn } from './answers.ts'
import { ByteReader } from './byte-reader.ts'
import type { Connection } from './connection.ts'
import { filePieces } from './file-pieces.ts'
import { counted, number16, number32, number64, senseless, type Answer, type Operation } from './protocol.ts'
import { SLOT_BYTES, type Slot, type SlotPool, type Window } from './window.ts'

/** What a request may take: a place of a slow repository, a folder of a million names. */
const ANSWER_MS = 30_000
/** The line's buffer holds 4096 bytes, and loses its way when it is full: the requests of all slots together must fit. */
const PATH_ON_LINE_BYTES = 512
const IN_SLOT = 0x8000_0000
/** No folder has more entries. */
const NUMBER_MAX = 0xffff_ffff

export interface ReaderParts {
  connection: Connection
  window: Window
  volumes: readonly Volume[]
  /** Ends the processes; `failed` settles by itself. */
  close: () => Promise<void>
}

export function createReader({ connection, window, volumes, close }: ReaderParts): FileReader {
  /** Volume, slot and path; a path that is too long for the line goes into the slot, and its length has the highest bit set. */
  const target = (volume: Volume, path: string) => {
    const number = volumes.findIndex(({ id, state }) => id === volume.id && state === 'readable')
    if (number === -1) throw new HoldfastError('FILE_NOT_FOUND', `This disk has no readable volume "${volume.id}".`)
    const bytes = nameToBytes(path)
    return async (slot: Slot): Promise<Uint8Array[]> => {
      const head = [number16(number), number32(slot.offset)]
      if (bytes.length <= PATH_ON_LINE_BYTES) return [...head, counted(bytes)]
      await window.put(slot, bytes)
      return [...head, number32(IN_SLOT + bytes.length)]
    }
  }

  /** Holds a slot from asking until `use` has what came, also when the caller is gone: the reader may still write into it. */
  async function exchange<T>(
    request: {
      pool: SlotPool
      operation: Operation
      target: (slot: Slot) => Promise<Uint8Array[]>
      numbers: Uint8Array[]
      signal?: AbortSignal | undefined
    },
    use: (answer: Answer, slot: Slot) => T | Promise<T>,
  ): Promise<T> {
    const slot = await request.pool.take(request.signal)
    const answered = request
      .target(slot)
      .then((head) => connection.ask(request.operation, [...head, ...request.numbers], ANSWER_MS))
      .then((answer) => use(answer, slot))
      .catch((error: unknown) => {
        if (error instanceof HoldfastError && error.code === 'MOUNT_INTERRUPTED') connection.fail(error)
        throw error
      })
      .finally(() => request.pool.give(slot))
    return untilAborted(answered, request.signal ? [request.signal] : [])
  }

  async function page(
    volume: Volume,
    path: string,
    from: { first: number; most: number },
    signal?: AbortSignal,
  ): Promise<EntryPage> {
    const numbers = [number32(from.first), number32(from.most), number32(SLOT_BYTES)]
    return exchange(
      { pool: window.pages, operation: 'L', target: target(volume, path), numbers, signal },
      async (answer, slot) => {
        const { total, count, length } = pageHeader(contentOf(answer, path), from)
        return { total, entries: entriesIn(await window.copy(slot, length), count) }
      },
    )
  }

  return {
    volumes,
    failed: connection.failed,
    async list(volume, path, { first: asked, most }, signal) {
      const first = Math.min(asked, NUMBER_MAX)
      const entries: Entry[] = []
      for (;;) {
        // A page of long names may not fit into one slot.
        const { total, entries: more } = await page(
          volume,
          path,
          { first: first + entries.length, most: most - entries.length },
          signal,
        )
        entries.push(...more)
        if (entries.length >= most || first + entries.length >= total) return { total, entries }
      }
    },
    async status(volume, path, signal) {
      const request = { pool: window.pages, operation: 'S' as const, target: target(volume, path), numbers: [], signal }
      return exchange(request, (answer): FileStatus => {
        const status = statusIn(contentOf(answer, path))
        if (typeof status === 'number') throw fileError(status, path)
        return status
      })
    },
    read(volume, path, range: ByteRange, signal) {
      const file = target(volume, path)
      const readPiece = (from: number, length: number, enough: AbortSignal): Promise<Uint8Array> =>
        exchange(
          { pool: window.pieces, operation: 'R', target: file, numbers: [number64(from), number32(length)], signal: enough },
          (answer, slot) => {
            const got = new ByteReader(contentOf(answer, path)).number32()
            if (got > length) throw senseless(`${got} bytes where ${length} were asked for`)
            return window.copy(slot, got)
          },
        )
      return filePieces(readPiece, range, signal)
    },
    close,
  }
}

function contentOf(answer: Answer, path: string): Buffer {
  if (answer.errno !== 0) throw fileError(answer.errno, path)
  return answer.payload
}

/** An answer of nothing where there is more would be asked for again without end. */
function pageHeader(
  payload: Buffer,
  { first, most }: { first: number; most: number },
): { total: number; count: number; length: number } {
  const reader = new ByteReader(payload)
  const [total, count, length] = [reader.number32(), reader.number32(), reader.number32()]
  reader.end()
  const possible = Math.min(most, Math.max(0, total - first))
  if (count > possible || (count === 0 && possible > 0)) throw senseless(`${count} entries where ${possible} are`)
  return { total, count, length }
}
