/** Cursors: where a page ended, opaque to callers. A cursor that we did not make is refused, never guessed at. */
import type { AuditPosition } from '../db/queries/audit.ts'
import type { ByName, NewestFirst } from '../db/queries/page.ts'
import { HoldfastError } from '../domain/errors.ts'

export function cursorByTime(position: NewestFirst): string {
  return encode('t', position.createdAt.toISOString(), position.id)
}

/** `INVALID_REQUEST` when it is not a cursor of a list by time. */
export function readTimeCursor(cursor: string | undefined): NewestFirst | undefined {
  if (cursor === undefined) return undefined
  const [text, id] = decode('t', cursor)
  return { createdAt: timeOf(text), id }
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

export function cursorByEvent({ at, id }: AuditPosition): string {
  return encode('e', at.toISOString(), String(id))
}

/** `INVALID_REQUEST` when it is not a cursor of the audit trail. */
export function readEventCursor(cursor: string | undefined): AuditPosition | undefined {
  if (cursor === undefined) return undefined
  const [text, number] = decode('e', cursor)
  return { at: timeOf(text), id: wholeNumberOf(number) }
}

/** Of a list that is cut by numbers, because it never changes. */
export function cursorByNumber(first: number): string {
  return encode('p', String(first), '')
}

/** 0 without one. `INVALID_REQUEST` when it is not a cursor of a list that is cut by numbers. */
export function readNumberCursor(cursor: string | undefined): number {
  if (cursor === undefined) return 0
  return wholeNumberOf(decode('p', cursor)[0])
}

function timeOf(text: string): Date {
  const time = new Date(text)
  if (Number.isNaN(time.getTime()) || time.toISOString() !== text) throw invalidCursor()
  return time
}

function wholeNumberOf(text: string): number {
  const number = Number(text)
  if (!Number.isSafeInteger(number) || number < 0 || String(number) !== text) throw invalidCursor()
  return number
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
