import { array, assert, bigInt, integer, property, uint8Array } from 'fast-check'
import { expect, it } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import { entriesIn, statusIn, volumesIn } from './answers.ts'
import { AnswerDecoder, counted, encodeRequest, number32, number64, type Answer } from './protocol.ts'

const text = (value: string): Buffer => counted(Buffer.from(value))

function message(id: number, errno: number, payload: Uint8Array): Buffer {
  return Buffer.concat([number32(8 + payload.length), number32(id), number32(errno), payload])
}

function volume(id: string, state = 'readable'): Buffer {
  return Buffer.concat([...[id, state, 'ext4', 'root', 'b9050e8e', 'ubda1', 'a note'].map(text), number64(4_096)])
}

interface Fields {
  name: Uint8Array
  mode: number
  sizeBytes?: number
  seconds?: bigint
  nanoseconds?: number
  target?: string
}

function entry({ name, mode, sizeBytes = 0, seconds = 0n, nanoseconds = 0, target = '' }: Fields): Buffer {
  const modified = Buffer.alloc(8)
  modified.writeBigInt64BE(seconds)
  const numbers = [number32(0), number32(mode), number32(1), number32(2), number64(sizeBytes), number64(3), number64(4)]
  return Buffer.concat([counted(name), ...numbers, modified, number32(nanoseconds), text(target)])
}

/** What `read` makes of these bytes, which must be something or our own error. */
function refusal(read: () => unknown): HoldfastError | null {
  try {
    read()
    return null
  } catch (error) {
    if (error instanceof HoldfastError) return error
    throw error
  }
}

it('makes the same answers of a line however it comes in pieces', () => {
  const answers = array(uint8Array({ maxLength: 300 }), { maxLength: 8 })
  assert(
    property(answers, array(integer({ min: 1, max: 40 }), { minLength: 1 }), (payloads, lengths) => {
      const line = Buffer.concat(payloads.map((payload, index) => message(index, index, payload)))
      const decoder = new AnswerDecoder()
      const found: Answer[] = []
      for (let at = 0, turn = 0; at < line.length; turn++) {
        const length = lengths[turn % lengths.length]!
        found.push(...decoder.push(line.subarray(at, at + length)))
        at += length
      }
      expect(found).toEqual(payloads.map((payload, index) => ({ id: index, errno: index, payload: Buffer.from(payload) })))
    }),
  )
})

it('writes a request with its length in front', () => {
  expect(encodeRequest(7, 'L', Buffer.from('ab')).toString('hex')).toBe('00000007000000074c6162')
})

it('holds no more of a line than one answer may have', () => {
  for (const length of [0, 7, 1024 * 1024 + 1, 0xffff_ffff]) {
    expect(refusal(() => new AnswerDecoder().push(number32(length)))).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  }
  expect(refusal(() => new AnswerDecoder().push(message(1, 4_096, Buffer.alloc(0))))).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
})

it('makes of hostile bytes either something or our own error', () => {
  const bytes = uint8Array({ maxLength: 200 })
  assert(
    property(bytes, integer({ min: 0, max: 5 }), (random, count) => {
      const payload = Buffer.from(random)
      for (const read of [
        () => new AnswerDecoder().push(payload),
        () => volumesIn(payload),
        () => statusIn(payload),
        () => entriesIn(payload, count),
      ]) {
        expect(refusal(read)?.code ?? 'MOUNT_INTERRUPTED').toBe('MOUNT_INTERRUPTED')
      }
    }),
    { numRuns: 2_000 },
  )
})

it('refuses what is right but for one byte too few or too many', () => {
  const page = entry({ name: Buffer.from('hosts'), mode: 0o100644, sizeBytes: 5 })
  expect(entriesIn(page, 1)).toHaveLength(1)
  for (let length = 0; length < page.length; length++) {
    expect(refusal(() => entriesIn(page.subarray(0, length), 1))).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  }
  expect(refusal(() => entriesIn(Buffer.concat([page, Buffer.alloc(1)]), 1))).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  // A count that the bytes do not bear out costs nothing.
  expect(refusal(() => entriesIn(page, 0xffff_ffff))).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
})

it('takes volumes only with an id that paths can begin with, each once', () => {
  expect(volumesIn(Buffer.concat([volume('partition-1'), volume('vg0-root', 'encrypted')]))).toEqual([
    {
      id: 'partition-1',
      state: 'readable',
      fileSystem: 'ext4',
      label: 'root',
      uuid: 'b9050e8e',
      sizeBytes: 4_096,
      note: 'a note',
    },
    { id: 'vg0-root', state: 'encrypted', fileSystem: 'ext4', label: 'root', uuid: 'b9050e8e', sizeBytes: 4_096, note: 'a note' },
  ])
  for (const bad of [volume('..'), volume(''), volume('a/b'), volume('a\n'), volume('a', 'open'), volume('a'.repeat(5_000))]) {
    expect(refusal(() => volumesIn(bad))).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  }
  expect(refusal(() => volumesIn(Buffer.concat([volume('a'), volume('a')])))).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
})

it('refuses names that would lead elsewhere', () => {
  for (const name of ['', '.', '..', '../etc', 'a/b', 'a\0b', 'x'.repeat(1_025)]) {
    const page = entry({ name: Buffer.from(name), mode: 0o100644 })
    expect(refusal(() => entriesIn(page, 1))).toMatchObject({ code: 'MOUNT_INTERRUPTED' })
  }
  const odd = Buffer.from([0x61, 0x0a, 0xff])
  expect(entriesIn(entry({ name: odd, mode: 0o100644 }), 1)).toMatchObject([{ name: 'a\n\uf7ff' }])
})

it('tells the kinds apart, and what is of none as damaged', () => {
  const kindOf = (mode: number): unknown => entriesIn(entry({ name: Buffer.from('x'), mode, sizeBytes: 9, target: 'to' }), 1)[0]
  expect(kindOf(0o104755)).toMatchObject({ status: { kind: 'file', mode: 0o4755, sizeBytes: 9, target: null } })
  expect(kindOf(0o120777)).toMatchObject({ status: { kind: 'symlink', sizeBytes: 0, target: 'to' } })
  expect(kindOf(0o041777)).toMatchObject({ status: { kind: 'directory', sizeBytes: 0 } })
  expect(kindOf(0o010644)).toMatchObject({ status: { kind: 'fifo' } })
  expect(kindOf(0o170644)).toMatchObject({ status: null, problem: expect.stringContaining('damaged') })
  const unreadable = Buffer.concat([text('x'), number32(5)])
  expect(entriesIn(unreadable, 1)).toEqual([{ name: 'x', status: null, problem: expect.stringContaining('cannot be read') }])
  expect(statusIn(unreadable)).toBe(5)
})

it('keeps times and sizes within what numbers can hold', () => {
  const name = Buffer.from('x')
  assert(
    property(
      bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      integer({ min: 0, max: 0xffff_ffff }),
      (seconds, nanoseconds) => {
        const [found] = entriesIn(entry({ name, mode: 0o100644, seconds, nanoseconds }), 1)
        expect(Number.isSafeInteger(found?.status?.modifiedSeconds)).toBe(true)
        expect(found?.status?.modifiedNanoseconds).toBeLessThan(1_000_000_000)
      },
    ),
  )
})
