import { describe, expect, it } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { isDuplicateKey, translateConnectionError, translateDriverError } from './driver-errors.ts'

function driverError(message: string, properties: object): Error {
  return Object.assign(new Error(message), properties)
}

describe('a failure of the driver', () => {
  it.each([
    ['the server is gone', { code: 'ECONNREFUSED', syscall: 'connect', fatal: true }],
    ['the connection broke', { code: 'PROTOCOL_CONNECTION_LOST', fatal: true }],
    ['the password is wrong', { code: 'ER_ACCESS_DENIED_ERROR', errno: 1045 }],
    ['too many clients', { code: 'ER_CON_COUNT_ERROR', errno: 1040 }],
    ['the disk of the server is full', { code: 'ER_RECORD_FILE_FULL', errno: 1114 }],
    ['the file system of the server refuses', { code: 'EE_WRITE', errno: 3 }],
    ['a deadlock', { code: 'ER_LOCK_DEADLOCK', errno: 1213 }],
    ['a lock that did not come', { code: 'ER_LOCK_WAIT_TIMEOUT', errno: 1205 }],
  ])('may be tried again: %s', (message, properties) => {
    expect(translateDriverError(driverError(message, properties))).toMatchObject({ code: 'CATALOG_UNAVAILABLE', retryable: true })
  })

  it.each([
    ['a wrong statement', { code: 'ER_PARSE_ERROR', errno: 1064 }],
    ['a column that is not there', { code: 'ER_BAD_FIELD_ERROR', errno: 1054 }],
    ['a name that is taken', { code: 'ER_DUP_ENTRY', errno: 1062 }],
  ])('will fail again: %s', (message, properties) => {
    expect(translateDriverError(driverError(message, properties))).toMatchObject({ code: 'INTERNAL', retryable: false })
  })

  it('while connecting means out of reach, whatever it is', () => {
    expect(translateConnectionError(driverError('odd', { code: 'ER_UNKNOWN' }))).toMatchObject({ code: 'CATALOG_UNAVAILABLE' })
  })

  it('keeps its code and words, but not the statement with its values', () => {
    const translated = translateDriverError(
      driverError('no such table', { code: 'ER_NO_SUCH_TABLE', errno: 1146, sql: 'insert … canary' }),
    )
    expect(translated.message).toContain('ER_NO_SUCH_TABLE: no such table')
    expect(translated.cause).toMatchObject({ code: 'ER_NO_SUCH_TABLE', errno: 1146 })
    expect(translated.cause).not.toHaveProperty('sql')
  })

  it('is translated once', () => {
    const error = new HoldfastError('VM_EXISTS', 'taken')
    expect(translateDriverError(error)).toBe(error)
  })

  it('copes with what is not an error', () => {
    expect(translateDriverError('odd')).toMatchObject({ code: 'INTERNAL', message: expect.stringContaining('odd') })
  })
})

describe('isDuplicateKey', () => {
  const refused = translateDriverError(driverError("Duplicate entry 'x' for key 'unique_name'", { code: 'ER_DUP_ENTRY' }))

  it('knows which key', () => {
    expect(isDuplicateKey(refused)).toBe(true)
    expect(isDuplicateKey(refused, 'unique_name')).toBe(true)
    expect(isDuplicateKey(refused, 'name')).toBe(false)
  })

  it('is not fooled by other errors', () => {
    expect(isDuplicateKey(new Error("Duplicate entry 'x' for key 'unique_name'"))).toBe(false)
    expect(isDuplicateKey(undefined)).toBe(false)
  })
})
