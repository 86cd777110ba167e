/** A mover's answer as the body of ours: read only as fast as the client takes it, and never made to look complete when it is not. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { HoldfastError } from '../domain/errors.ts'

/** Longer than a search may find nothing: who waits for the next piece for so long waits for a mover that is gone without a word. */
const STALL_MS = 120_000

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
  const watch = watchFor(answer)
  let bytes = 0
  let over = false
  const end = (outcome: Outcome): void => {
    if (over) return
    over = true
    watch.end()
    answer.destroy()
    options.ended({ outcome, bytes })
  }
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

/** Breaks the answer off when a piece that somebody waits for does not come. Nobody waits while a client is slow. */
function watchFor(answer: IncomingMessage): { during<Piece>(piece: Promise<Piece>): Promise<Piece>; end(): void } {
  let waiting = false
  const timer = setTimeout(() => {
    if (waiting) answer.destroy(new HoldfastError('MOVER_UNAVAILABLE', 'The mover stopped in the middle of its answer.'))
  }, STALL_MS).unref()
  return {
    async during(piece) {
      waiting = true
      timer.refresh()
      try {
        return await piece
      } finally {
        waiting = false
      }
    },
    end: () => clearTimeout(timer),
  }
}
