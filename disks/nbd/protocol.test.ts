import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  commands,
  encodeGo,
  encodeMetaContextQuery,
  encodeOption,
  encodeRequest,
  errnoName,
  readableText,
  readUint64,
} from './protocol.ts'

const command = fc.constantFrom(...Object.values(commands))
const uint53 = fc.maxSafeNat()
const uint32 = fc.nat(0xffffffff)

const hex = (...fields: string[]): string => fields.join('')

test('a request’s fields stand where the protocol puts them', () => {
  fc.assert(
    fc.property(command, fc.nat(0xffff), uint53, uint53, uint32, (command, flags, cookie, offset, length) => {
      const bytes = encodeRequest({ command, flags, cookie, offset, length })
      expect(bytes.length).toBe(28)
      expect(bytes.readUInt32BE(0)).toBe(0x25609513)
      expect([bytes.readUInt16BE(4), bytes.readUInt16BE(6)]).toEqual([flags, command])
      expect([bytes.readBigUInt64BE(8), bytes.readBigUInt64BE(16)]).toEqual([BigInt(cookie), BigInt(offset)])
      expect(bytes.readUInt32BE(24)).toBe(length)
    }),
  )
})

test('64-bit numbers are read exactly, or not at all', () => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 64n - 1n), (value) => {
      const bytes = Buffer.alloc(9)
      bytes.writeBigUInt64BE(value, 1)
      expect(readUint64(bytes, 1)).toBe(value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : Number.NaN)
    }),
  )
})

test('options and their data', () => {
  expect(encodeOption(8).toString('hex')).toBe(hex('49484156454f5054', '00000008', '00000000'))
  expect(encodeOption(1, Buffer.from('ab')).toString('hex')).toBe(hex('49484156454f5054', '00000001', '00000002', '6162'))
  expect(encodeGo('é', [3]).toString('hex')).toBe(hex('00000002', 'c3a9', '0001', '0003'))
  expect(encodeMetaContextQuery('', ['a:b']).toString('hex')).toBe(hex('00000000', '00000001', '00000003', '613a62'))
})

test('error numbers have names, unknown ones keep theirs', () => {
  expect([1, 5, 12, 22, 28, 75, 95, 108].map(errnoName)).toEqual([
    'EPERM',
    'EIO',
    'ENOMEM',
    'EINVAL',
    'ENOSPC',
    'EOVERFLOW',
    'ENOTSUP',
    'ESHUTDOWN',
  ])
  expect(errnoName(77)).toBe('errno 77')
})

test('text from a server is one short, harmless line whatever its bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 5000 }), (bytes) => {
      const text = readableText(Buffer.from(bytes))
      expect(text.length).toBeLessThanOrEqual(301)
      expect(text).not.toMatch(/\p{Cc}/u)
    }),
  )
})
