import { afterEach, describe, expect, test } from 'vitest'
import {
  bytes,
  chunk,
  shakeHands,
  simpleReply,
  startScriptedNbdServer,
  u32,
  type Peer,
  type ScriptedServer,
  type ServedExport,
} from '../../test/scripted-nbd-server.ts'
import type { Extent } from './block-status.ts'
import { NbdPool, type NbdPoolOptions } from './nbd-pool.ts'

const MULTI = 1 | 4 | 64 | 256
const servers: ScriptedServer[] = []
const pools: NbdPool[] = []

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()))
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

async function openPool(script: (peer: Peer) => Promise<void>, options: Partial<NbdPoolOptions> = {}) {
  const server = await startScriptedNbdServer(script)
  servers.push(server)
  const pool = await NbdPool.open(server.endpoint, { connections: 4, requestTimeoutMs: 5_000, ...options })
  pools.push(pool)
  return { pool, server }
}

/** Serves a disk whose bytes tell which connection read them. */
async function serveMarked(peer: Peer, served: ServedExport): Promise<void> {
  await shakeHands(peer, served)
  for (;;) {
    const { command, cookie, length } = await peer.request()
    if (command === 2) return peer.hangUp()
    peer.send(simpleReply(cookie, 0, command === 0 ? Buffer.alloc(length, peer.index + 1) : ''))
  }
}

async function listed(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const list: Extent[] = []
  for await (const extent of extents) list.push(extent)
  return list
}

async function readersOf(pool: NbdPool, count: number): Promise<Set<number>> {
  const buffers = Array.from({ length: count }, () => Buffer.alloc(512))
  await Promise.all(buffers.map((into) => pool.read(0, 512, into)))
  return new Set(buffers.map((into) => into[0] ?? 0))
}

describe('connections', () => {
  test('as many as wanted when the server shows one disk to all, used in turn', async () => {
    const { pool, server } = await openPool((peer) => serveMarked(peer, { sizeBytes: 4096, flags: MULTI }))
    expect(pool.connectionCount).toBe(4)
    expect(server.accepted()).toBe(4)
    expect(await readersOf(pool, 8)).toEqual(new Set([1, 2, 3, 4]))
  })

  test('one without multi-conn', async () => {
    const { pool, server } = await openPool((peer) => serveMarked(peer, { sizeBytes: 4096 }))
    expect([pool.connectionCount, server.accepted()]).toEqual([1, 1])
    expect(await readersOf(pool, 3)).toEqual(new Set([1]))
  })

  const shy: [string, (peer: Peer) => Promise<void>][] = [
    ['hung up on', async (peer) => peer.hangUp()],
    ['never answered', (peer) => peer.gone],
    ['answered with garbage', async (peer) => peer.send('sorry, too many clients')],
    ['shown another disk', (peer) => serveMarked(peer, { sizeBytes: 8192, flags: MULTI })],
  ]
  test.each(shy)('extra connections that are %s are done without', async (_name, refuse) => {
    const { pool } = await openPool(
      (peer) => (peer.index === 0 ? serveMarked(peer, { sizeBytes: 4096, flags: MULTI }) : refuse(peer)),
      {
        connectTimeoutMs: 2_000,
      },
    )
    expect(pool.connectionCount).toBe(1)
    expect(await readersOf(pool, 3)).toEqual(new Set([1]))
  })

  test('a connection that ends takes its requests with it, the others go on, the last one’s end ends all', async () => {
    const doomed = new Map<number, Peer>()
    const { pool } = await openPool(
      async (peer) => {
        doomed.set(peer.index, peer)
        await serveMarked(peer, { sizeBytes: 4096, flags: MULTI })
      },
      { connections: 2 },
    )
    doomed.get(0)?.hangUp()
    await expect.poll(() => pool.connectionCount).toBe(1)
    expect(await readersOf(pool, 3)).toEqual(new Set([2]))
    await pool.flush()
    doomed.get(1)?.hangUp()
    await expect.poll(() => pool.connectionCount).toBe(0)
    await expect(pool.read(0, 512, Buffer.alloc(512))).rejects.toMatchObject({ code: 'NBD_CONNECT_FAILED' })
    await expect(pool.write(0, Buffer.alloc(512))).rejects.toMatchObject({ code: 'NBD_CONNECT_FAILED' })
    await expect(pool.writeZeroes(0, 512)).rejects.toMatchObject({ code: 'NBD_CONNECT_FAILED' })
    await expect(pool.flush()).rejects.toMatchObject({ code: 'NBD_CONNECT_FAILED' })
  })

  test('abort while the extra connections wait leaves nothing open', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const gone: Promise<void>[] = []
    const opening = openPool(
      async (peer) => {
        gone.push(peer.gone)
        if (peer.index === 0) return serveMarked(peer, { sizeBytes: 4096, flags: MULTI })
        if (gone.length === 4) controller.abort(reason)
        return peer.gone
      },
      { signal: controller.signal },
    )
    await expect(opening).rejects.toBe(reason)
    await Promise.all(gone)
  })
})

describe('extents', () => {
  test('are asked for piece by piece, joined across replies, and come from the connection that knows the context', async () => {
    const asked: number[][] = []
    const { pool } = await openPool(
      async (peer) => {
        await shakeHands(peer, {
          sizeBytes: 40_960,
          flags: MULTI,
          structured: true,
          contexts: peer.index === 0 ? { 1: 'base:allocation' } : {},
        })
        for (;;) {
          const { command, cookie, offset, length } = await peer.request()
          if (command === 2) return peer.hangUp()
          asked.push([peer.index, offset, length])
          // Describes 4096 bytes per reply, one extent of it past the border of the request.
          const flags = offset < 16_384 ? 0 : 3
          peer.send(chunk(cookie, 5, bytes(u32(1), u32(2048), u32(flags), u32(2048), u32(flags))))
        }
      },
      { metaContexts: ['base:allocation'] },
    )
    const extents = await listed(pool.extents('base:allocation', 4096, 24_576))
    expect(extents).toEqual([
      { offset: 4096, length: 12_288, flags: 0 },
      { offset: 16_384, length: 8192, flags: 3 },
    ])
    expect(asked).toEqual([
      [0, 4096, 20_480],
      [0, 8192, 16_384],
      [0, 12_288, 12_288],
      [0, 16_384, 8192],
      [0, 20_480, 4096],
    ])
  })

  test('of an unaligned range on a server with blocks of 4096 stay within the range', async () => {
    const { pool } = await openPool(
      async (peer) => {
        await shakeHands(peer, {
          sizeBytes: 40_960,
          blockSizes: [4096, 4096, 4096],
          structured: true,
          contexts: { 1: 'base:allocation' },
        })
        for (;;) {
          const { command, cookie, offset } = await peer.request()
          if (command === 2) return peer.hangUp()
          if (offset % 4096 !== 0) return peer.hangUp()
          peer.send(chunk(cookie, 5, bytes(u32(1), u32(5000), u32(offset === 0 ? 0 : 1))))
        }
      },
      { metaContexts: ['base:allocation'] },
    )
    const extents = await listed(pool.extents('base:allocation', 100, 9000))
    expect(extents).toEqual([
      { offset: 100, length: 4900, flags: 0 },
      { offset: 5000, length: 4000, flags: 1 },
    ])
  })

  test('an empty range has none; a context that was not granted is an error', async () => {
    const { pool } = await openPool((peer) => serveMarked(peer, { sizeBytes: 4096 }))
    expect(await listed(pool.extents('base:allocation', 0, 0))).toEqual([])
    await expect(listed(pool.extents('base:allocation', 0, 512))).rejects.toMatchObject({ code: 'NBD_REQUEST_FAILED' })
  })
})
