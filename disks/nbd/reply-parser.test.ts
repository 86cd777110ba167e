/** Properties of the parser on generated transcripts, without a socket: many thousand servers in a second. */
import * as fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import { bytes, chunk, simpleReply, u16, u32, u64 } from '../../test/scripted-nbd-server.ts'
import { PendingRequest } from './pending-request.ts'
import { commands } from './protocol.ts'
import { ReplyParser } from './reply-parser.ts'

/** Thousands of runs take seconds on a busy machine. */
vi.setConfig({ testTimeout: 60_000 })

interface Read {
  cookie: number
  offset: number
  into: Buffer
  /** What an honest server sends; never 0 except where `holes` says so. */
  content: Buffer
}

type Outcome = 'open' | 'read' | 'failed'

/** Feeds `transcript` in slices and tells what became of each read. */
async function play(reads: Read[], transcript: Buffer, slices: number[], structuredReplies: boolean) {
  const pending = new Map(
    reads.map(({ cookie, offset, into }) => [
      cookie,
      new PendingRequest({ command: commands.read, offset, length: into.length, into }, 0),
    ]),
  )
  const outcomes = new Map<number, Outcome>(reads.map(({ cookie }) => [cookie, 'open']))
  const settled = [...pending].map(([cookie, { promise }]) =>
    promise.then(
      () => outcomes.set(cookie, 'read'),
      () => outcomes.set(cookie, 'failed'),
    ),
  )
  const parser = new ReplyParser({ endpoint: 'test', pending, structuredReplies, contextNames: new Map() })
  let broken: unknown = null
  try {
    for (let at = 0, turn = 0; at < transcript.length; turn++) {
      const size = slices[turn % slices.length] ?? 1
      // A copy, and scribbled over afterwards: the transport uses its memory again.
      const slice = Buffer.from(transcript.subarray(at, at + size))
      parser.feed(slice)
      slice.fill(0xee)
      at += size
    }
  } catch (error) {
    broken = error
  }
  const unanswered = [...pending.values()]
  for (const request of unanswered) request.reject(new Error('transcript over'))
  await Promise.all(settled)
  return { outcomes, broken, unanswered: unanswered.length }
}

const slices = fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 8 })

/** A read and the chunks of its reply: data and holes in any order. */
const scatteredRead = fc
  .record({
    offset: fc.integer({ min: 0, max: 2 ** 50 }),
    sizes: fc.array(fc.record({ length: fc.integer({ min: 1, max: 300 }), hole: fc.boolean() }), { minLength: 1, maxLength: 6 }),
    seed: fc.nat(200),
  })
  .chain(({ offset, sizes, seed }) => {
    let start = 0
    const parts = sizes.map(({ length, hole }) => {
      start += length
      return { at: start - length, length, hole }
    })
    const content = Buffer.from(Array.from({ length: start }, (_, index) => 1 + ((index + seed) % 255)))
    for (const { at, length, hole } of parts) if (hole) content.fill(0, at, at + length)
    return fc.record({
      offset: fc.constant(offset),
      content: fc.constant(content),
      parts: fc.shuffledSubarray(parts, { minLength: parts.length }),
    })
  })

const conversationOf = (reads: { most: number }) =>
  fc.array(scatteredRead, { minLength: 1, maxLength: reads.most }).map((scattered) => {
    const reads = scattered.map(({ offset, content }, index): Read => ({
      cookie: index + 1,
      offset,
      content,
      into: Buffer.alloc(content.length, 0x55),
    }))
    const structured = scattered.flatMap(({ offset, content, parts }, index) =>
      parts.map(({ at, length, hole }, turn) => {
        const payload = hole ? bytes(u64(offset + at), u32(length)) : bytes(u64(offset + at), content.subarray(at, at + length))
        return chunk(u64(index + 1), hole ? 2 : 1, payload, { done: turn === parts.length - 1 })
      }),
    )
    const simple = reads.map(({ cookie, content }) => simpleReply(u64(cookie), 0, content))
    return { reads, structured: bytes(...structured), simple: bytes(...simple) }
  })
const conversation = conversationOf({ most: 4 })

/** What a parser may throw, or that it threw nothing. */
const nullOrProtocolError = (broken: unknown): boolean =>
  broken === null || (broken instanceof HoldfastError && broken.code === 'NBD_PROTOCOL_ERROR')

const freshReads = (reads: Read[]): Read[] => reads.map((read) => ({ ...read, into: Buffer.alloc(read.into.length, 0x55) }))

describe('honest transcripts', () => {
  test.each(['structured', 'simple'] as const)('%s replies arrive whole however the bytes are sliced', async (kind) => {
    await fc.assert(
      fc.asyncProperty(conversation, slices, async (conversation, slices) => {
        const reads = freshReads(conversation.reads)
        const { outcomes, broken } = await play(reads, conversation[kind], slices, kind === 'structured')
        expect(broken).toBeNull()
        for (const { cookie, into, content } of reads) {
          expect(outcomes.get(cookie)).toBe('read')
          expect(into.equals(content)).toBe(true)
        }
      }),
      { numRuns: 300 },
    )
  })
})

const mutation = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: fc.nat(), to: fc.nat(255) }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), length: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('insert' as const), at: fc.nat(), what: fc.uint8Array({ minLength: 1, maxLength: 40 }) }),
  fc.record({ kind: fc.constant('end' as const), at: fc.nat() }),
)

function mutated(transcript: Buffer, change: typeof mutation extends fc.Arbitrary<infer T> ? T : never): Buffer {
  const at = change.at % transcript.length
  if (change.kind === 'end') return transcript.subarray(0, at)
  if (change.kind === 'insert') return bytes(transcript.subarray(0, at), Buffer.from(change.what), transcript.subarray(at))
  if (change.kind === 'cut') return bytes(transcript.subarray(0, at), transcript.subarray(at + change.length))
  const copy = Buffer.from(transcript)
  copy[at] = change.to
  return copy
}

describe('dishonest transcripts', () => {
  test.each([true, false])('one flipped byte changes at most one byte of what is read (structured: %s)', async (structured) => {
    await fc.assert(
      fc.asyncProperty(
        conversationOf({ most: structured ? 4 : 1 }),
        slices,
        fc.nat(),
        fc.nat(255),
        async (conversation, slices, at, to) => {
          const reads = freshReads(conversation.reads)
          const transcript = mutated(structured ? conversation.structured : conversation.simple, { kind: 'flip', at, to })
          const { outcomes, broken } = await play(reads, transcript, slices, structured)
          expect(nullOrProtocolError(broken)).toBe(true)
          // A simple reply tells neither offset nor length, so one with another's cookie goes unseen: there, one read at a time.
          // In structured replies a flipped cookie may exchange two answers of one length; then whole buffers differ, but nothing is made up.
          const exchanged = reads.some((read) =>
            reads.some((other) => other !== read && other.content.length === read.content.length),
          )
          for (const { cookie, into, content } of reads) {
            if (outcomes.get(cookie) !== 'read' || exchanged) continue
            expect(into.filter((byte, index) => byte !== content[index]).length).toBeLessThanOrEqual(1)
          }
        },
      ),
      { numRuns: 1500 },
    )
  })

  test.each([true, false])(
    'any damage ends in answers or NBD_PROTOCOL_ERROR, never in another error (structured: %s)',
    async (structured) => {
      await fc.assert(
        fc.asyncProperty(
          conversation,
          slices,
          fc.array(mutation, { minLength: 1, maxLength: 5 }),
          async (conversation, slices, changes) => {
            const reads = freshReads(conversation.reads)
            let transcript = structured ? conversation.structured : conversation.simple
            for (const change of changes) if (transcript.length > 0) transcript = mutated(transcript, change)
            const { outcomes, broken } = await play(reads, transcript, slices, structured)
            expect(nullOrProtocolError(broken)).toBe(true)
            expect([...outcomes.values()]).not.toContain('open')
          },
        ),
        { numRuns: 1500 },
      )
    },
  )

  test('random bytes are refused within a header', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 16, maxLength: 4096 }),
        slices,
        fc.boolean(),
        async (noise, slices, structured) => {
          fc.pre(noise[0] !== 0x67 && noise[0] !== 0x66)
          const reads = [{ cookie: 1, offset: 0, into: Buffer.alloc(512), content: Buffer.alloc(512) }]
          const { broken, unanswered } = await play(reads, Buffer.from(noise), slices, structured)
          expect(broken).toMatchObject({ code: 'NBD_PROTOCOL_ERROR' })
          expect(unanswered).toBe(1)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('random structured headers never make it store more than was asked', async () => {
    const header = fc.record({
      flags: fc.nat(3),
      type: fc.constantFrom(0, 1, 2, 5, 6, 0x8001, 0x8002, 0x9000),
      cookie: fc.integer({ min: 0, max: 3 }),
      lengthBytes: fc.oneof(fc.nat(64), fc.constantFrom(4104, 2 ** 31, 0xffffffff)),
      payload: fc.uint8Array({ maxLength: 64 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(header, { minLength: 1, maxLength: 10 }), slices, async (headers, slices) => {
        const guard = Buffer.alloc(512 + 64, 0x55)
        const reads = [1, 2].map((cookie) => ({
          cookie,
          offset: 0,
          into: guard.subarray(32, 32 + 256),
          content: Buffer.alloc(0),
        }))
        const transcript = headers.map(({ flags, type, cookie, lengthBytes, payload }) =>
          bytes(u32(0x668e33ef), u16(flags), u16(type), u64(cookie), u32(lengthBytes), Buffer.from(payload)),
        )
        const { broken } = await play(reads, bytes(...transcript), slices, true)
        expect(nullOrProtocolError(broken)).toBe(true)
        expect(guard.subarray(0, 32).every((byte) => byte === 0x55)).toBe(true)
        expect(guard.subarray(32 + 256).every((byte) => byte === 0x55)).toBe(true)
      }),
      { numRuns: 1000 },
    )
  })
})
