/** A mover's answer as the body of ours: read only as fast as the client takes it, and never made to look complete when it is not. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { HoldfastError } from '../domain/errors.ts'

/** Longer than a search may find nothing: who waits for the next piece for so long waits for a mover that is gone without a word. */
const MOVER_STALL_MS = 120_000
/** A client that takes nothing for so long holds what others could use. */
const CLIENT_STALL_MS = 600_000

/** `client-gone`: the client broke it off. `broken`: the mover, or what it reads, failed in the middle. */
export type Outcome = 'completed' | 'client-gone' | 'broken'

export interface StreamEnd {
  outcome: Outcome
  /** Given to the client's connection. */
  bytes: number
}

export interface StreamOptions {
  /** The connection to break when the mover fails; without one (no server) the stream fails. */
  outgoing: Pick<ServerResponse, 'destroy'> | undefined
  signal: AbortSignal
  /** Told once, whatever happens. */
  ended(end: StreamEnd): void
  /** What to give in place of the answer's own bytes. */
  pieces?: AsyncIterable<Uint8Array>
}

export function streamOf(answer: IncomingMessage, options: StreamOptions): ReadableStream<Uint8Array> {
  const { outgoing, signal, pieces = answer } = options
  const source = pieces[Symbol.asyncIterator]()
  let bytes = 0
  let over = false
  const end = (outcome: Outcome): void => {
    if (over) return
    over = true
    watch.end()
    answer.destroy()
    options.ended({ outcome, bytes })
  }
  const watch = createWatch({
    mover: () => answer.destroy(new HoldfastError('MOVER_UNAVAILABLE', 'The mover stopped in the middle of its answer.')),
    client: () => {
      end('client-gone')
      outgoing?.destroy()
    },
  })
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const piece = await watch.during(source.next())
          if (piece.done === true) {
            end('completed')
            controller.close()
          } else {
            bytes += piece.value.length
            controller.enqueue(piece.value)
          }
        } catch (error) {
          end(signal.aborted ? 'client-gone' : 'broken')
          // The server would end a stream that fails with a few words of its own, and chunks that end well look complete.
          if (outgoing) outgoing.destroy()
          else controller.error(error)
        }
      },
      cancel: () => end('client-gone'),
    },
    { highWaterMark: 0 },
  )
}

/** Whoever is to do something next has its time for it. */
function createWatch(stalls: { mover: () => void; client: () => void }): {
  during<Piece>(piece: Promise<Piece>): Promise<Piece>
  end(): void
} {
  let timer: NodeJS.Timeout | undefined
  let over = false
  const expect = (late: () => void, withinMs: number): void => {
    clearTimeout(timer)
    if (!over) timer = setTimeout(late, withinMs).unref()
  }
  return {
    async during(piece) {
      expect(stalls.mover, MOVER_STALL_MS)
      try {
        return await piece
      } finally {
        expect(stalls.client, CLIENT_STALL_MS)
      }
    },
    end() {
      over = true
      clearTimeout(timer)
    },
  }
}
