import { expect, test } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import {
  cursorByEvent,
  cursorByName,
  cursorByNumber,
  cursorByTime,
  readEventCursor,
  readNameCursor,
  readNumberCursor,
  readTimeCursor,
} from './cursor.ts'

test('a cursor says where the page ended, to the millisecond and in any script', () => {
  const at = { createdAt: new Date('2026-01-02T03:04:05.678Z'), id: 'backup-ü' }
  expect(readTimeCursor(cursorByTime(at))).toEqual(at)
  expect(readNameCursor(cursorByName({ name: '名前 "x"', id: 'b' }))).toEqual({ name: '名前 "x"', id: 'b' })
  expect(readEventCursor(cursorByEvent({ at: at.createdAt, id: 7 }))).toEqual({ at: at.createdAt, id: 7 })
  expect(readNumberCursor(cursorByNumber(1_000))).toBe(1_000)
  expect(readEventCursor(undefined)).toBeUndefined()
  expect(readNumberCursor(undefined)).toBe(0)
  expect(readTimeCursor(undefined)).toBeUndefined()
  expect(readNameCursor(undefined)).toBeUndefined()
})

const sealed = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

test.each([
  ['noise', '%%%'],
  ['not JSON', Buffer.from('{').toString('base64url')],
  ['another shape', sealed({ t: 1 })],
  ['too short', sealed(['t', '2026-01-02T03:04:05.678Z'])],
  ['too long', sealed(['t', '2026-01-02T03:04:05.678Z', 'a', 'b'])],
  ['no time', sealed(['t', 'yesterday', 'a'])],
  ['a time without milliseconds', sealed(['t', '2026-01-02T03:04:05Z', 'a'])],
  ['an id that is an object', sealed(['t', '2026-01-02T03:04:05.678Z', { $ne: null }])],
  ['a cursor of another list', cursorByName({ name: 'a', id: 'b' })],
])('%s is refused', (_what, cursor) => {
  expect(() => readTimeCursor(cursor)).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }))
  expect(() => readTimeCursor(cursor)).toThrow(HoldfastError)
})

test.each(['-1', '1.5', '1e3', 'x', '', '9007199254740993', '01'])('a number %j is refused', (text) => {
  const refused = expect.objectContaining({ code: 'INVALID_REQUEST' })
  expect(() => readNumberCursor(sealed(['p', text, '']))).toThrow(refused)
  expect(() => readEventCursor(sealed(['e', '2026-01-02T03:04:05.678Z', text]))).toThrow(refused)
})
