/** Writes content to a client exactly as fast as the client takes it. */
import { once } from 'node:events'
import type { ServerResponse } from 'node:http'

/**
 * Resolves when all of it was taken by the client's connection, or the client is gone. Nothing is asked of `content` while the client has yet to take what was
 * written, and its iteration is ended with the connection. Rejects with the content's error; by then the connection is broken, so that
 * the client cannot take what it got for the whole. @param onPiece hears how many bytes are about to be written
 */
export async function sendContent(
  outgoing: ServerResponse,
  content: AsyncIterable<Uint8Array>,
  onPiece: (bytes: number) => void,
): Promise<void> {
  try {
    for await (const piece of content) {
      if (outgoing.destroyed) return
      onPiece(piece.length)
      if (!outgoing.write(piece)) await drained(outgoing)
    }
    if (!outgoing.destroyed) outgoing.end()
  } catch (error) {
    if (outgoing.destroyed) return
    outgoing.destroy()
    throw error
  }
}

/** Also when it is closed: then nothing more will be taken. */
async function drained(outgoing: ServerResponse): Promise<void> {
  const done = new AbortController()
  try {
    await Promise.race([once(outgoing, 'drain', { signal: done.signal }), once(outgoing, 'close', { signal: done.signal })])
  } finally {
    done.abort()
  }
}

/** The same content, its first piece taken: what fails before that can still be answered with words. Whoever asks must go through it, or stop at once. */
export async function beginContent(content: AsyncIterable<Uint8Array>): Promise<AsyncIterable<Uint8Array>> {
  const pieces = content[Symbol.asyncIterator]()
  const first = await pieces.next()
  return fromFirst(first, pieces)
}

async function* fromFirst(
  first: IteratorResult<Uint8Array>,
  pieces: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  try {
    for (let next = first; next.done !== true; next = await pieces.next()) yield next.value
  } finally {
    await pieces.return?.()
  }
}
