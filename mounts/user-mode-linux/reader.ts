/** Reads files through a kernel of our own: the `FileReader` that speaks with it. */
import { HoldfastError } from '../../domain/errors.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import { fileError } from '../file-errors.ts'
import { nameToBytes } from '../file-names.ts'
import type { ByteRange, Entry, EntryPage, FileReader, FileStatus } from '../file-reader.ts'
import { entriesIn, statusIn } from './answers.ts'
import { ByteReader } from './byte-reader.ts'
import type { Connection } from './connection.ts'
import { filePieces } from './file-pieces.ts'
import { counted, number16, number32, number64, senseless, type Answer, type Operation } from './protocol.ts'
import { SLOT_BYTES, type Slot, type SlotPool, type Window } from './window.ts'

/** What a request may take: a place of a slow repository, a folder of a million names. */
const ANSWER_MS = 30_000

export interface ReaderParts {
  connection: Connection
  window: Window
  volumes: readonly Volume[]
  /** Ends the processes; `failed` settles by itself. */
  close: () => Promise<void>
}

export function createReader({ connection, window, volumes, close }: ReaderParts): FileReader {
  const target = (volume: Volume, path: string): Uint8Array[] => {
    const number = volumes.findIndex(({ id, state }) => id === volume.id && state === 'readable')
    if (number === -1) throw new HoldfastError('FILE_NOT_FOUND', `This disk has no readable volume "${volume.id}".`)
    return [number16(number), counted(nameToBytes(path))]
  }

  /** Holds a slot from asking until `use` has what came, also when the caller is gone: the reader may still write into it. */
  async function exchange<T>(
    request: { pool: SlotPool; operation: Operation; parts: (slot: Slot) => Uint8Array[]; signal?: AbortSignal | undefined },
    use: (answer: Answer, slot: Slot) => T | Promise<T>,
  ): Promise<T> {
    const slot = await request.pool.take(request.signal)
    const answered = connection
      .ask(request.operation, request.parts(slot), ANSWER_MS)
      .then((answer) => use(answer, slot))
      .catch((error: unknown) => {
        if (error instanceof HoldfastError && error.code === 'MOUNT_INTERRUPTED') connection.fail(error)
        throw error
      })
      .finally(() => request.pool.give(slot))
    return abortable(answered, request.signal)
  }

  async function page(
    volume: Volume,
    path: string,
    from: { first: number; most: number },
    signal?: AbortSignal,
  ): Promise<EntryPage> {
    const parts = target(volume, path)
    const asked = { pool: window.pages, operation: 'L' as const, signal }
    return exchange(
      {
        ...asked,
        parts: ({ offset }) => [...parts, number32(from.first), number32(from.most), number32(offset), number32(SLOT_BYTES)],
      },
      async (answer, slot) => {
        const { total, count, length } = pageHeader(contentOf(answer, path), from)
        return { total, entries: entriesIn(await window.copy(slot, length), count) }
      },
    )
  }

  return {
    volumes,
    failed: connection.failed,
    async list(volume, path, { first, most }, signal) {
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
      const parts = target(volume, path)
      return exchange({ pool: window.pages, operation: 'S', parts: () => parts, signal }, (answer): FileStatus => {
        const status = statusIn(contentOf(answer, path))
        if (typeof status === 'number') throw fileError(status, path)
        return status
      })
    },
    read(volume, path, range: ByteRange, signal) {
      const parts = target(volume, path)
      const readPiece = (from: number, length: number, enough: AbortSignal): Promise<Uint8Array> =>
        exchange(
          {
            pool: window.pieces,
            operation: 'R',
            signal: enough,
            parts: ({ offset }) => [...parts, number64(from), number32(length), number32(offset)],
          },
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

async function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = (): void => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  // Whichever is late is nobody's concern.
  aborted.catch(() => undefined)
  work.catch(() => undefined)
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
