/** Cursors: where a page ended, opaque to callers. A cursor that we did not make is refused, never guessed at. */
import type { ByName, NewestFirst } from '../db/queries/page.ts'
import { HoldfastError } from '../domain/errors.ts'

export function cursorByTime(position: NewestFirst): string {
  return encode('t', position.createdAt.toISOString(), position.id)
}

/** `INVALID_REQUEST` when it is not a cursor of a list by time. */
export function readTimeCursor(cursor: string | undefined): NewestFirst | undefined {
  if (cursor === undefined) return undefined
  const [text, id] = decode('t', cursor)
  const createdAt = new Date(text)
  if (Number.isNaN(createdAt.getTime()) || createdAt.toISOString() !== text) throw invalidCursor()
  return { createdAt, id }
}

export function cursorByName(position: ByName): string {
  return encode('n', position.name, position.id)
}

/** `INVALID_REQUEST` when it is not a cursor of a list by name. */
export function readNameCursor(cursor: string | undefined): ByName | undefined {
  if (cursor === undefined) return undefined
  const [name, id] = decode('n', cursor)
  return { name, id }
}

/** Of a list that is cut by numbers, because it never changes. */
export function cursorByNumber(first: number): string {
  return encode('p', String(first), '')
}

/** 0 without one. `INVALID_REQUEST` when it is not a cursor of a list that is cut by numbers. */
export function readNumberCursor(cursor: string | undefined): number {
  if (cursor === undefined) return 0
  const [text] = decode('p', cursor)
  const first = Number(text)
  if (!Number.isSafeInteger(first) || first < 0 || String(first) !== text) throw invalidCursor()
  return first
}

function encode(kind: string, first: string, id: string): string {
  return Buffer.from(JSON.stringify([kind, first, id])).toString('base64url')
}

function decode(kind: string, cursor: string): [first: string, id: string] {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'))
  } catch (cause) {
    throw invalidCursor(cause)
  }
  if (!Array.isArray(value) || value.length !== 3 || value[0] !== kind) throw invalidCursor()
  const [, first, id] = value as unknown[]
  if (typeof first !== 'string' || typeof id !== 'string') throw invalidCursor()
  return [first, id]
}

function invalidCursor(cause?: unknown): HoldfastError {
  return new HoldfastError('INVALID_REQUEST', 'The cursor is not one of this list: start again without it.', {
    details: { issues: [{ path: 'cursor', message: 'not a cursor of this list' }] },
    cause,
  })
}
