/** Whole conversations over a real socket, damaged anywhere from the greeting on: the client always comes to an end, and to a clean one. */
import * as fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import { HoldfastError } from '../../domain/errors.ts'
import {
  bytes,
  chunk,
  greeting,
  optionReply,
  startScriptedNbdServer,
  u16,
  u32,
  u64,
  type Peer,
  type ScriptedServer,
} from '../../test/scripted-nbd-server.ts'
import { NbdConnection } from './nbd-connection.ts'

const DEADLINE_MS = 150
/** For a busy machine, where a deadline is not what is tested. */
const PATIENCE_MS = 10_000
const SIZE_BYTES = 8192
const cookie = (count: number): Buffer => u64(count)

/** Everything an honest server says in one conversation: handshake, a read, a block status, a write, a flush. */
const honest = bytes(
  greeting(3),
  optionReply(8, 1),
  optionReply(10, 4, bytes(u32(1), 'base:allocation')),
  optionReply(10, 1),
  optionReply(7, 3, bytes(u16(3), u32(1), u32(4096), u32(1048576))),
  optionReply(7, 3, bytes(u16(0), u64(SIZE_BYTES), u16(1 | 4 | 64))),
  optionReply(7, 1),
)
const replies = bytes(
  chunk(cookie(1), 1, bytes(u64(0), Buffer.alloc(512, 0xaa)), { done: false }),
  chunk(cookie(1), 2, bytes(u64(512), u32(512))),
  chunk(cookie(2), 5, bytes(u32(1), u32(4096), u32(0), u32(4096), u32(3))),
  chunk(cookie(3), 0, bytes()),
  chunk(cookie(4), 0, bytes()),
)

interface Damage {
  at: number
  cut: number
  insert: Uint8Array
  hangUp: boolean
}

const damage: fc.Arbitrary<Damage> = fc.record({
  at: fc.nat(honest.length + replies.length - 1),
  cut: fc.nat(24),
  insert: fc.uint8Array({ maxLength: 24 }),
  hangUp: fc.boolean(),
})

let server: ScriptedServer | null = null
afterEach(async () => {
  await server?.close()
  server = null
})

/** Says the damaged text without listening, then hangs up or falls silent. Replies wait for the first request, as they must. */
async function recite(peer: Peer, { at, cut, insert, hangUp }: Damage): Promise<void> {
  const whole = bytes(honest, replies)
  const text = bytes(whole.subarray(0, at), Buffer.from(insert), whole.subarray(at + cut))
  const border = honest.length + (at < honest.length ? insert.length - cut : 0)
  peer.send(text.subarray(0, Math.max(0, border)))
  // Client flags, three options: the handshake is over when they are in.
  await Promise.race([peer.read(4 + 16 + 16 + 4 + 4 + 4 + 4 + 15 + 16 + 4 + 4 + 2 + 2 + 28), peer.gone])
  peer.send(text.subarray(Math.max(0, border)))
  if (hangUp) peer.hangUp()
  await peer.gone
}

/** What came of the conversation: each promise's value or reason. */
async function converse(
  endpoint: ScriptedServer['endpoint'],
  deadlineMs: number,
): Promise<{ failures: unknown[]; into: Buffer; read: boolean }> {
  const into = Buffer.alloc(1024, 0x55)
  let connection: NbdConnection
  try {
    connection = await NbdConnection.connect(endpoint, {
      connectTimeoutMs: deadlineMs,
      requestTimeoutMs: deadlineMs,
      metaContexts: ['base:allocation'],
    })
  } catch (error) {
    return { failures: [error], into, read: false }
  }
  const results = await Promise.allSettled([
    connection.read(0, 1024, into),
    connection.blockStatus(0, SIZE_BYTES, 'base:allocation'),
    connection.write(0, Buffer.alloc(512)),
    connection.flush(),
  ])
  await connection.close()
  const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []))
  return { failures, into, read: results[0].status === 'fulfilled' }
}

test('the undamaged conversation succeeds', async () => {
  server = await startScriptedNbdServer((peer) => recite(peer, { at: 0, cut: 0, insert: new Uint8Array(), hangUp: false }))
  const { failures, into } = await converse(server.endpoint, PATIENCE_MS)
  expect(failures).toEqual([])
  expect(into.equals(bytes(Buffer.alloc(512, 0xaa), Buffer.alloc(512)))).toBe(true)
})

test('a damaged one ends within the deadlines, in answers or HoldfastErrors, and never puts zeroes where data belongs', async () => {
  let current: Damage | null = null
  server = await startScriptedNbdServer((peer) => (current ? recite(peer, current) : Promise.resolve()))
  const { endpoint } = server
  await fc.assert(
    fc.asyncProperty(damage, async (damage) => {
      current = damage
      const started = performance.now()
      const { failures, into, read } = await converse(endpoint, DEADLINE_MS)
      expect(performance.now() - started).toBeLessThan(PATIENCE_MS)
      expect(failures.filter((failure) => !(failure instanceof HoldfastError && failure.code.startsWith('NBD_')))).toEqual([])
      const zeroes = read ? into.subarray(0, 512).filter((byte) => byte === 0).length : 0
      // What was inserted may itself hold zeroes.
      expect(zeroes).toBeLessThanOrEqual(damage.insert.filter((byte) => byte === 0).length)
    }),
    { numRuns: 150 },
  )
}, 60_000)

test('random bytes instead of a conversation', async () => {
  let noise: Uint8Array = new Uint8Array()
  server = await startScriptedNbdServer(async (peer) => {
    peer.send(Buffer.from(noise))
    peer.hangUp()
  })
  const { endpoint } = server
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), fc.boolean(), async (random, greeted) => {
      noise = greeted ? bytes(greeting(3), Buffer.from(random)) : random
      const { failures } = await converse(endpoint, PATIENCE_MS)
      expect(failures).toHaveLength(1)
      expect(failures[0]).toMatchObject({ code: expect.stringMatching(/^NBD_(PROTOCOL_ERROR|CONNECT_FAILED)$/) })
    }),
    { numRuns: 200 },
  )
}, 60_000)
