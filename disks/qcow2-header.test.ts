import { assert, boolean, property, uint8Array } from 'fast-check'
import { expect, it } from 'vitest'
import { parseQcow2Header, Qcow2FormatError } from './qcow2-header.ts'

/** A version 3 header as the specification lays it out, field by field. */
function header(change: (bytes: Buffer) => void = () => undefined): Buffer {
  const bytes = Buffer.alloc(4096)
  bytes.writeUInt32BE(0x514649fb, 0)
  bytes.writeUInt32BE(3, 4)
  bytes.writeUInt32BE(16, 20)
  bytes.writeBigUInt64BE(1_048_576n, 24)
  bytes.writeUInt32BE(4, 96)
  bytes.writeUInt32BE(112, 100)
  change(bytes)
  return bytes
}

function withBacking(name: string, format: string): (bytes: Buffer) => void {
  return (bytes) => {
    bytes.writeUInt32BE(0xe2792aca, 112)
    bytes.writeUInt32BE(format.length, 116)
    bytes.write(format, 120)
    bytes.writeBigUInt64BE(1024n, 8)
    bytes.writeUInt32BE(Buffer.byteLength(name), 16)
    bytes.write(name, 1024)
  }
}

it('reads a plain image', () => {
  expect(parseQcow2Header(header())).toEqual({
    version: 3,
    sizeBytes: 1_048_576,
    clusterSizeBytes: 65_536,
    backingName: null,
    backingFormat: null,
    encrypted: false,
    hasDataFile: false,
    unexpectedFeatures: [],
  })
})

it('reads backing name and format exactly as stored', () => {
  expect(parseQcow2Header(header(withBacking('../b/disk-0.qcow2', 'qcow2')))).toMatchObject({
    backingName: '../b/disk-0.qcow2',
    backingFormat: 'qcow2',
  })
})

it('tells features that reading the data would need', () => {
  const features = (bits: bigint) => parseQcow2Header(header((bytes) => bytes.writeBigUInt64BE(bits, 72)))
  expect(features(0b1000n)).toMatchObject({ unexpectedFeatures: [], hasDataFile: false })
  expect(features(0b0100n)).toMatchObject({ unexpectedFeatures: ['external data file'], hasDataFile: true })
  expect(features(1n | (1n << 63n)).unexpectedFeatures).toEqual(['dirty', 'bit 63'])
  expect(parseQcow2Header(header((bytes) => bytes.writeUInt32BE(1, 32))).encrypted).toBe(true)
})

it.each<[string, (bytes: Buffer) => void, RegExp]>([
  ['another magic', (bytes) => bytes.writeUInt32BE(1, 0), /not a QCOW2 file/],
  ['an unknown version', (bytes) => bytes.writeUInt32BE(4, 4), /version is 4/],
  ['absurd clusters', (bytes) => bytes.writeUInt32BE(31, 20), /cluster size/],
  ['an impossible size', (bytes) => bytes.writeBigUInt64BE(1n << 63n, 24), /virtual size/],
  ['a short header', (bytes) => bytes.writeUInt32BE(8, 100), /too short/],
  ['a backing name outside', (bytes) => (bytes.writeBigUInt64BE(4090n, 8), bytes.writeUInt32BE(100, 16)), /backing name/],
  ['a giant backing name', (bytes) => (bytes.writeBigUInt64BE(200n, 8), bytes.writeUInt32BE(4_000_000_000, 16)), /backing name/],
  ['an endless extension', (bytes) => (bytes.writeUInt32BE(7, 112), bytes.writeUInt32BE(0xffffffff, 116)), /extension/],
])('refuses %s', (_name, change, message) => {
  expect(() => parseQcow2Header(header(change))).toThrow(message)
})

it('never fails in any other way, whatever the bytes', () => {
  const failureOf = (bytes: Buffer): unknown => {
    try {
      parseQcow2Header(bytes)
      return null
    } catch (error) {
      return error
    }
  }
  assert(
    property(uint8Array({ maxLength: 600 }), boolean(), (noise, keepMagic) => {
      const bytes = Buffer.from(noise)
      if (keepMagic && bytes.length >= 8) header().copy(bytes, 0, 0, 8)
      const failure = failureOf(bytes)
      return failure === null || failure instanceof Qcow2FormatError
    }),
  )
})
