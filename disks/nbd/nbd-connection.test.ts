import { afterEach, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../domain/errors.ts'
import {
  bytes,
  chunk,
  shakeHands,
  simpleReply,
  startScriptedNbdServer,
  u16,
  u32,
  u64,
  type Peer,
  type ReceivedRequest,
  type ScriptedServer,
  type ServedExport,
} from '../../test/scripted-nbd-server.ts'
import { NbdConnection, type NbdOptions } from './nbd-connection.ts'

const MIB = 1024 * 1024
const CONTEXTS = { 7: 'base:allocation' }
const servers: ScriptedServer[] = []
const connections: NbdConnection[] = []

afterEach(async () => {
  await Promise.all(connections.splice(0).map((connection) => connection.close()))
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

async function connectTo(script: (peer: Peer) => Promise<void>, options: NbdOptions = {}): Promise<NbdConnection> {
  const server = await startScriptedNbdServer(script)
  servers.push(server)
  const connection = await NbdConnection.connect(server.endpoint, { requestTimeoutMs: 5_000, ...options })
  connections.push(connection)
  return connection
}

/** A server that shakes hands honestly and then answers each request with what `answer` returns. */
function serving(served: ServedExport, answer: (request: ReceivedRequest, peer: Peer) => Buffer | null) {
  return async (peer: Peer): Promise<void> => {
    await shakeHands(peer, served)
    for (;;) {
      const request = await peer.request()
      if (request.command === 2) return peer.hangUp()
      const reply = answer(request, peer)
      if (reply) peer.send(reply)
    }
  }
}

const failsWith = (code: ErrorCode, message: RegExp) => ({ code, message: expect.stringMatching(message) })

describe('honest replies', () => {
  test('requests are encoded as the protocol says and answers may come in any order', async () => {
    const seen: ReceivedRequest[] = []
    const connection = await connectTo(
      serving({ sizeBytes: 2 ** 40 }, (request) => {
        seen.push(request)
        if (seen.length < 2) return null
        const [first, second] = seen
        return bytes(simpleReply(second!.cookie, 0, Buffer.alloc(512, 2)), simpleReply(first!.cookie, 0, Buffer.alloc(1024, 1)))
      }),
    )
    const [one, two] = [Buffer.alloc(1024), Buffer.alloc(512)]
    await Promise.all([connection.read(2 ** 33 + 4096, 1024, one), connection.read(512, 512, two)])
    expect(one.equals(Buffer.alloc(1024, 1))).toBe(true)
    expect(two.equals(Buffer.alloc(512, 2))).toBe(true)
    expect(seen.map(({ command, flags, offset, length }) => ({ command, flags, offset, length }))).toEqual([
      { command: 0, flags: 0, offset: 2 ** 33 + 4096, length: 1024 },
      { command: 0, flags: 0, offset: 512, length: 512 },
    ])
  })

  test('writes, zeroes and flushes arrive whole', async () => {
    const seen: ReceivedRequest[] = []
    const connection = await connectTo(
      serving({ sizeBytes: MIB }, (request) => {
        seen.push(request)
        return simpleReply(request.cookie)
      }),
    )
    const data = Buffer.from('0123456789abcdef')
    await Promise.all([
      connection.write(16, data),
      connection.writeZeroes(0, 16),
      connection.writeZeroes(64, 8, { noHole: true }),
    ])
    await connection.flush()
    expect(seen.map(({ command, flags, offset, length }) => [command, flags, offset, length])).toEqual([
      [1, 0, 16, 16],
      [6, 0, 0, 16],
      [6, 2, 64, 8],
      [3, 0, 0, 0],
    ])
    expect(seen[0]?.payload.equals(data)).toBe(true)
  })

  test('a structured read is put together from chunks in any order, holes become zeroes in exactly their range', async () => {
    const connection = await connectTo(
      serving({ sizeBytes: MIB, structured: true }, ({ cookie, offset }) =>
        bytes(
          chunk(cookie, 1, bytes(u64(offset + 6), Buffer.from([7, 8])), { done: false }),
          chunk(cookie, 2, bytes(u64(offset + 2), u32(4)), { done: false }),
          chunk(cookie, 1, bytes(u64(offset), Buffer.from([1, 2])), { done: false }),
          chunk(cookie, 0, bytes()),
        ),
      ),
      { structuredReplies: true },
    )
    const into = Buffer.alloc(10, 0x55)
    await connection.read(100, 8, into)
    expect([...into]).toEqual([1, 2, 0, 0, 0, 0, 7, 8, 0x55, 0x55])
  })

  test('requests beyond the server’s block size are split, reads off its grid are widened, writes off it are refused', async () => {
    const seen: number[][] = []
    const content = Buffer.from(Array.from({ length: 8192 }, (_, index) => index % 251))
    const connection = await connectTo(
      serving({ sizeBytes: 8192, blockSizes: [512, 1024, 1024] }, ({ command, cookie, offset, length }) => {
        seen.push([command, offset, length])
        return simpleReply(cookie, 0, command === 0 ? content.subarray(offset, offset + length) : '')
      }),
    )
    const into = Buffer.alloc(2000)
    await connection.read(700, 2000, into)
    expect(into.equals(content.subarray(700, 2700))).toBe(true)
    expect(seen).toEqual([
      [0, 512, 1024],
      [0, 1536, 1024],
      [0, 2560, 512],
    ])
    await connection.write(512, Buffer.alloc(1536))
    expect(seen.slice(3)).toEqual([
      [1, 512, 1024],
      [1, 1536, 512],
    ])
    await expect(connection.write(100, Buffer.alloc(512))).rejects.toMatchObject({
      ...failsWith('NBD_REQUEST_FAILED', /multiples of 512/),
      retryable: false,
    })
    await expect(connection.writeZeroes(512, 100)).rejects.toMatchObject(failsWith('NBD_REQUEST_FAILED', /multiples of 512/))
  })

  test('a server without WRITE_ZEROES gets zeroes as data', async () => {
    const seen: ReceivedRequest[] = []
    const connection = await connectTo(
      serving({ sizeBytes: 8192, flags: 1, blockSizes: [1, 512, 1000] }, (request) => {
        seen.push(request)
        return simpleReply(request.cookie)
      }),
    )
    await connection.writeZeroes(5, 2500)
    await connection.writeZeroes(7, 9)
    expect(seen.map(({ command, offset, length }) => [command, offset, length])).toEqual([
      [1, 5, 1000],
      [1, 1005, 1000],
      [1, 2005, 500],
      [1, 7, 9],
    ])
    expect(seen.every(({ payload }) => payload.every((byte) => byte === 0))).toBe(true)
    await expect(connection.flush()).rejects.toMatchObject({
      ...failsWith('NBD_REQUEST_FAILED', /cannot flush/),
      retryable: false,
    })
  })

  test('block status asks below 4 GiB, clips the last extent and names the flags', async () => {
    const seen: ReceivedRequest[] = []
    const connection = await connectTo(
      serving({ sizeBytes: 2 ** 40, structured: true, contexts: CONTEXTS }, (request) => {
        seen.push(request)
        return chunk(request.cookie, 5, bytes(u32(7), u32(4096), u32(0), u32(0xffffffff), u32(3)))
      }),
      { metaContexts: ['base:allocation', 'qemu:dirty-bitmap:none'] },
    )
    expect(connection.export.metaContexts).toEqual(['base:allocation'])
    const extents = await connection.blockStatus(65536, 2 ** 39, 'base:allocation')
    expect(seen[0]).toMatchObject({ command: 7, offset: 65536, length: 0xffff0000 })
    expect(extents).toEqual([
      { offset: 65536, length: 4096, flags: 0 },
      { offset: 69632, length: 0xffff0000 - 4096, flags: 3 },
    ])
    await expect(connection.blockStatus(0, 512, 'qemu:dirty-bitmap:none')).rejects.toMatchObject(
      failsWith('NBD_REQUEST_FAILED', /did not grant/),
    )
  })

  test('nothing is sent for ranges off the disk, short buffers, read-only exports and empty ranges', async () => {
    const connection = await connectTo(serving({ sizeBytes: 1000, flags: 1 | 2 }, () => expect.unreachable()))
    const into = Buffer.alloc(1000)
    await expect(connection.read(501, 500, into)).rejects.toMatchObject({
      code: 'NBD_REQUEST_FAILED',
      details: { offset: 501, length: 500, errno: 'EINVAL' },
    })
    await expect(connection.read(-1, 5, into)).rejects.toMatchObject({ code: 'NBD_REQUEST_FAILED' })
    await expect(connection.read(0, 5, Buffer.alloc(4))).rejects.toMatchObject(failsWith('NBD_REQUEST_FAILED', /shorter/))
    await expect(connection.write(0, into)).rejects.toMatchObject({
      code: 'NBD_REQUEST_FAILED',
      details: { errno: 'EPERM' },
      retryable: false,
    })
    await connection.read(1000, 0, into)
  })
})

describe('errors of one request leave the connection usable', () => {
  test('simple error', async () => {
    let first = true
    const connection = await connectTo(
      serving({ sizeBytes: MIB }, ({ cookie, length }) => {
        const failing = first
        first = false
        return failing ? simpleReply(cookie, 5) : simpleReply(cookie, 0, Buffer.alloc(length, 9))
      }),
    )
    const into = Buffer.alloc(4096)
    await expect(connection.read(8192, 4096, into)).rejects.toMatchObject({
      ...failsWith('NBD_REQUEST_FAILED', /read of 4096 bytes at offset 8192 failed .*EIO/),
      details: { offset: 8192, length: 4096, errno: 'EIO' },
      retryable: true,
    })
    await connection.read(0, 4096, into)
    expect(into.every((byte) => byte === 9)).toBe(true)
  })

  test('structured error with a text, between data chunks', async () => {
    const connection = await connectTo(
      serving({ sizeBytes: MIB, structured: true }, ({ cookie, offset }) =>
        bytes(
          chunk(cookie, 1, bytes(u64(offset), Buffer.alloc(512, 1)), { done: false }),
          chunk(cookie, 0x8002, bytes(u32(28), u16(14), 'disk\u0007is\nfull!!', u64(offset + 512)), { done: false }),
          chunk(cookie, 0x8001, bytes(u32(5), u16(0)), { done: false }),
          chunk(cookie, 0, bytes()),
        ),
      ),
      { structuredReplies: true },
    )
    await expect(connection.read(0, 1024, Buffer.alloc(1024))).rejects.toMatchObject({
      ...failsWith('NBD_REQUEST_FAILED', /ENOSPC, disk is full!!\.$/),
      details: { errno: 'ENOSPC' },
    })
    expect(connection.usable).toBe(true)
  })

  test('an error kind from the future is still an error', async () => {
    const connection = await connectTo(
      serving({ sizeBytes: MIB, structured: true }, ({ cookie }) =>
        chunk(cookie, 0x8fff, bytes(u32(4711), u16(2), 'hm', Buffer.alloc(30))),
      ),
      { structuredReplies: true },
    )
    await expect(connection.read(0, 512, Buffer.alloc(512))).rejects.toMatchObject(
      failsWith('NBD_REQUEST_FAILED', /errno 4711, hm/),
    )
  })

  test('all pieces of a split request are answered before its error is told', async () => {
    const seen: ReceivedRequest[] = []
    const connection = await connectTo(
      serving({ sizeBytes: 8192, blockSizes: [1, 512, 1024] }, (request) => {
        seen.push(request)
        if (seen.length < 2) return null
        return bytes(simpleReply(seen[0]!.cookie, 5), simpleReply(seen[1]!.cookie, 0, Buffer.alloc(1024, 3)))
      }),
    )
    const into = Buffer.alloc(2048)
    await expect(connection.read(0, 2048, into)).rejects.toMatchObject({ code: 'NBD_REQUEST_FAILED', details: { offset: 0 } })
    expect(into.subarray(1024).every((byte) => byte === 3)).toBe(true)
  })
})

type Answer = (request: ReceivedRequest, peer: Peer) => Buffer
const data = (offset: number, lengthBytes: number): Buffer => bytes(u64(offset), Buffer.alloc(lengthBytes, 0xaa))

describe('malformed replies end the connection', () => {
  const simple: [string, Answer, RegExp][] = [
    ['wrong magic', ({ cookie }) => bytes(u32(0xdeadbeef), u32(0), cookie), /begins with deadbeef/],
    ['unknown cookie', () => simpleReply(u64(0xffff), 0, Buffer.alloc(4096)), /never made/],
    ['cookie beyond 2^53', () => simpleReply(u64(0xffffffffffffffffn), 0, Buffer.alloc(4096)), /never made/],
    ['structured reply, not agreed on', ({ cookie }) => chunk(cookie, 1, data(0, 4096)), /none was agreed/],
    ['answered twice', ({ cookie }) => bytes(simpleReply(cookie, 0, Buffer.alloc(4096)), simpleReply(cookie)), /answers twice/],
  ]
  test.each(simple)('simple: %s', async (_name, answer, message) => {
    const connection = await connectTo(serving({ sizeBytes: MIB }, answer))
    // Two reads: even when the first is answered well, the second must fail and not hang.
    const results = await Promise.allSettled([
      connection.read(0, 4096, Buffer.alloc(4096)),
      connection.read(8192, 4096, Buffer.alloc(4096)),
    ])
    expect(results[1]).toMatchObject({ status: 'rejected', reason: failsWith('NBD_PROTOCOL_ERROR', message) })
    expect(await connection.closed).toMatchObject(failsWith('NBD_PROTOCOL_ERROR', message))
    await expect(connection.read(0, 1, Buffer.alloc(1))).rejects.toMatchObject({ code: 'NBD_PROTOCOL_ERROR' })
  })

  const structured: [string, Answer, RegExp][] = [
    ['data in a simple reply', ({ cookie }) => simpleReply(cookie, 0, Buffer.alloc(4096)), /simple reply/],
    ['chunk before the range', ({ cookie, offset }) => chunk(cookie, 1, data(offset - 1, 4096)), /outside/],
    ['chunk after the range', ({ cookie, offset }) => chunk(cookie, 1, data(offset + 1, 4096)), /outside/],
    ['chunk longer than the range', ({ cookie, offset }) => chunk(cookie, 1, data(offset, 4097)), /outside/],
    ['chunk that claims 4 GiB', ({ cookie, offset }) => chunk(cookie, 1, u64(offset), { lengthBytes: 0xffffffff }), /outside/],
    ['chunk at offset 2^64-1', ({ cookie }) => chunk(cookie, 1, bytes(u64(0xffffffffffffffffn), Buffer.alloc(4096))), /outside/],
    ['data chunk without data', ({ cookie, offset }) => chunk(cookie, 1, u64(offset)), /data chunk of 8/],
    ['data chunk shorter than its offset', ({ cookie }) => chunk(cookie, 1, u32(0)), /data chunk of 4/],
    [
      'overlapping chunks',
      ({ cookie, offset }) =>
        bytes(chunk(cookie, 1, data(offset, 4000), { done: false }), chunk(cookie, 1, data(offset + 3999, 97))),
      /overlap/,
    ],
    [
      'the same chunk twice',
      ({ cookie, offset }) => bytes(chunk(cookie, 1, data(offset, 64), { done: false }), chunk(cookie, 1, data(offset, 64))),
      /overlap/,
    ],
    [
      'a hole over data',
      ({ cookie, offset }) =>
        bytes(chunk(cookie, 1, data(offset, 64), { done: false }), chunk(cookie, 2, bytes(u64(offset), u32(4096)))),
      /overlap/,
    ],
    ['a hole beyond the range', ({ cookie, offset }) => chunk(cookie, 2, bytes(u64(offset + 1), u32(4096))), /outside/],
    ['a hole of nothing', ({ cookie, offset }) => chunk(cookie, 2, bytes(u64(offset), u32(0))), /outside/],
    [
      'a hole chunk of odd length',
      ({ cookie, offset }) => chunk(cookie, 2, bytes(u64(offset), u32(4096), u32(0))),
      /hole chunk of 16/,
    ],
    ['done too early', ({ cookie, offset }) => chunk(cookie, 1, data(offset, 4095)), /without all of its data/],
    ['done with nothing', ({ cookie }) => chunk(cookie, 0, bytes()), /without all of its data/],
    [
      'a gap in the middle',
      ({ cookie, offset }) =>
        bytes(chunk(cookie, 1, data(offset, 8), { done: false }), chunk(cookie, 1, data(offset + 16, 4080))),
      /without all of its data/,
    ],
    ['an empty chunk with content', ({ cookie }) => chunk(cookie, 0, u32(1)), /empty chunk/],
    ['an empty chunk that is not the last', ({ cookie }) => chunk(cookie, 0, bytes(), { done: false }), /empty chunk/],
    ['an unknown chunk type', ({ cookie }) => chunk(cookie, 99, u32(1)), /type 99/],
    ['block status for a read', ({ cookie }) => chunk(cookie, 5, bytes(u32(1), u32(1), u32(1))), /type 5/],
    [
      'an error chunk of 1 GiB',
      ({ cookie }) => chunk(cookie, 0x8001, u32(5), { lengthBytes: 2 ** 30 }),
      /error chunk of 1073741824/,
    ],
    ['an error chunk too short', ({ cookie }) => chunk(cookie, 0x8001, u32(5)), /error chunk of 4/],
    [
      'an error text longer than its chunk',
      ({ cookie }) => chunk(cookie, 0x8001, bytes(u32(5), u16(9), 'ab')),
      /longer than itself/,
    ],
    ['an error that is none', ({ cookie }) => chunk(cookie, 0x8001, bytes(u32(0), u16(0))), /without an error/],
    [
      'errors without end',
      ({ cookie }) => bytes(...Array.from({ length: 100 }, () => chunk(cookie, 0x8001, bytes(u32(5), u16(0)), { done: false }))),
      /without end/,
    ],
    [
      'one byte here, one byte there',
      ({ cookie, offset }) =>
        bytes(...Array.from({ length: 5000 }, (_, index) => chunk(cookie, 1, data(offset + index * 2, 1), { done: false }))),
      /thousands of pieces/,
    ],
  ]
  test.each(structured)('structured: %s', async (name, answer, message) => {
    const connection = await connectTo(serving({ sizeBytes: MIB, structured: true }, answer), { structuredReplies: true })
    const length = name.startsWith('one byte') ? 16384 : 4096
    await expect(connection.read(65536, length, Buffer.alloc(length))).rejects.toMatchObject(
      failsWith('NBD_PROTOCOL_ERROR', message),
    )
    expect(connection.usable).toBe(false)
  })

  const status: [string, Answer, RegExp][] = [
    ['an extent of no bytes', ({ cookie }) => chunk(cookie, 5, bytes(u32(7), u32(0), u32(0))), /no bytes/],
    [
      'extents beyond the range',
      ({ cookie, length }) => chunk(cookie, 5, bytes(u32(7), u32(length), u32(0), u32(1), u32(1))),
      /beyond the range/,
    ],
    ['no extents', ({ cookie }) => chunk(cookie, 5, u32(7)), /block status chunk of 4/],
    ['half an extent', ({ cookie }) => chunk(cookie, 5, bytes(u32(7), u32(1), u32(0), u32(1))), /not a multiple/],
    [
      'a chunk that claims 4 GiB',
      ({ cookie }) => chunk(cookie, 5, u32(7), { lengthBytes: 0xfffffffc }),
      /block status chunk of 4294967292/,
    ],
    ['more extents than bytes', ({ cookie }) => chunk(cookie, 5, u32(7), { lengthBytes: 4 + 8 * 70000 }), /block status chunk/],
    ['an unknown context', ({ cookie }) => chunk(cookie, 5, bytes(u32(8), u32(512), u32(0))), /unknown metadata context/],
    [
      'one context twice',
      ({ cookie }) => bytes(...[false, true].map((done) => chunk(cookie, 5, bytes(u32(7), u32(512), u32(0)), { done }))),
      /twice/,
    ],
    ['done without status', ({ cookie }) => chunk(cookie, 0, bytes()), /without status/],
    ['a simple reply', ({ cookie }) => simpleReply(cookie), /without status/],
    ['data', ({ cookie }) => chunk(cookie, 1, data(0, 512)), /type 1/],
  ]
  test.each(status)('block status: %s', async (_name, answer, message) => {
    const served = { sizeBytes: MIB, structured: true, contexts: CONTEXTS }
    const connection = await connectTo(serving(served, answer), { metaContexts: ['base:allocation'] })
    await expect(connection.blockStatus(0, 65536, 'base:allocation')).rejects.toMatchObject(
      failsWith('NBD_PROTOCOL_ERROR', message),
    )
    expect(connection.usable).toBe(false)
  })

  test('replies before any request', async () => {
    const connection = await connectTo(async (peer) => {
      await shakeHands(peer, { sizeBytes: MIB })
      peer.send(simpleReply(u64(1)))
      await peer.gone
    }).catch((error: unknown) => error)
    const error = connection instanceof NbdConnection ? await connection.closed : connection
    expect(error).toMatchObject(failsWith('NBD_PROTOCOL_ERROR', /never made|before any request/))
  })
})

describe('servers that stop', () => {
  const torn: [string, Answer][] = [
    ['after the request', () => bytes()],
    ['in the header', ({ cookie }) => simpleReply(cookie).subarray(0, 9)],
    ['in the payload', ({ cookie }) => simpleReply(cookie, 0, Buffer.alloc(1000))],
  ]
  test.each(torn)('hang up %s: everything under way fails, the buffer is not touched afterwards', async (_name, answer) => {
    const connection = await connectTo(
      serving({ sizeBytes: MIB }, (request, peer) => {
        peer.send(answer(request, peer))
        peer.hangUp()
        return null
      }),
    )
    const reads = await Promise.allSettled([0, 4096].map((offset) => connection.read(offset, 4096, Buffer.alloc(4096))))
    for (const read of reads)
      expect(read).toMatchObject({ status: 'rejected', reason: failsWith('NBD_CONNECT_FAILED', /was lost/) })
    expect(await connection.closed).toMatchObject({ code: 'NBD_CONNECT_FAILED' })
  })

  test.each(torn)('fall silent %s: NBD_TIMEOUT for everything under way, and the connection is closed', async (_name, answer) => {
    const silent = Promise.withResolvers<void>()
    const connection = await connectTo(
      async (peer) => {
        await shakeHands(peer, { sizeBytes: MIB })
        const request = await peer.request()
        peer.send(answer(request, peer))
        await peer.gone
        silent.resolve()
      },
      { requestTimeoutMs: 100 },
    )
    const started = performance.now()
    const reads = await Promise.allSettled([0, 4096].map((offset) => connection.read(offset, 4096, Buffer.alloc(4096))))
    for (const read of reads)
      expect(read).toMatchObject({ status: 'rejected', reason: failsWith('NBD_TIMEOUT', /within 100 ms/) })
    expect(performance.now() - started).toBeLessThan(3_000)
    await silent.promise
  })

  test('a drip of bytes does not outlast the deadline', async () => {
    const connection = await connectTo(
      async (peer) => {
        await shakeHands(peer, { sizeBytes: MIB })
        const { cookie } = await peer.request()
        peer.send(simpleReply(cookie))
        const drip = setInterval(() => peer.send(Buffer.alloc(1)), 5)
        await peer.gone
        clearInterval(drip)
      },
      { requestTimeoutMs: 150 },
    )
    await expect(connection.read(0, MIB, Buffer.alloc(MIB))).rejects.toMatchObject({ code: 'NBD_TIMEOUT' })
  })

  test('our own busy event loop is not held against the server', async () => {
    const answered = Promise.withResolvers<void>()
    const connection = await connectTo(
      serving({ sizeBytes: MIB }, ({ cookie, length }) => {
        answered.resolve()
        return simpleReply(cookie, 0, Buffer.alloc(length, 1))
      }),
      { requestTimeoutMs: 200 },
    )
    const into = Buffer.alloc(4096)
    const read = connection.read(0, 4096, into)
    // The reply leaves in this very turn of the loop; then the loop stands still for longer than the deadline.
    await answered.promise
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
    await read
    expect(into.every((byte) => byte === 1)).toBe(true)
  })
})

describe('closing and cancelling', () => {
  test('close rejects what is under way, says goodbye and is idempotent', async () => {
    const commands: number[] = []
    const farewell = Promise.withResolvers<void>()
    const connection = await connectTo(async (peer) => {
      await shakeHands(peer, { sizeBytes: MIB })
      for (;;) {
        const { command } = await peer.request()
        commands.push(command)
        if (command === 2) {
          farewell.resolve()
          peer.hangUp()
        }
      }
    })
    const read = connection.read(0, 512, Buffer.alloc(512))
    const [outcome] = await Promise.allSettled([read, connection.close(), connection.close()])
    expect(outcome).toMatchObject({ status: 'rejected', reason: failsWith('NBD_CONNECT_FAILED', /closed by this side/) })
    await farewell.promise
    expect(commands).toEqual([0, 2])
    expect(await connection.closed).toBeUndefined()
    await expect(connection.read(0, 512, Buffer.alloc(512))).rejects.toMatchObject({ code: 'NBD_CONNECT_FAILED' })
  })

  test('close does not wait for ever for a server that keeps the line open', async () => {
    const connection = await connectTo(async (peer) => {
      await shakeHands(peer, { sizeBytes: MIB })
      await peer.gone
    })
    const started = performance.now()
    await connection.close()
    expect(performance.now() - started).toBeLessThan(3_000)
  })

  test('abort rejects requests with the signal’s reason', async () => {
    const controller = new AbortController()
    const connection = await connectTo(
      serving({ sizeBytes: MIB }, () => null),
      { signal: controller.signal },
    )
    const reason = new Error('stop it')
    const read = connection.read(0, 512, Buffer.alloc(512))
    controller.abort(reason)
    await expect(read).rejects.toBe(reason)
    expect(await connection.closed).toMatchObject({ code: 'CANCELLED', cause: reason })
  })

  test('abort while connecting', async () => {
    const controller = new AbortController()
    const reason = new Error('no more')
    const connecting = connectTo(async (peer) => peer.gone, { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 20)
    await expect(connecting).rejects.toBe(reason)
    await expect(connectTo(async (peer) => peer.gone, { signal: controller.signal })).rejects.toBe(reason)
  })
})
