import { createServer } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import {
  bytes,
  greeting,
  optionReply,
  readOption,
  shakeHands,
  startScriptedNbdServer,
  u16,
  u32,
  u64,
  type Peer,
  type ScriptedServer,
} from '../../test/scripted-nbd-server.ts'
import { NbdConnection, type NbdOptions } from './nbd-connection.ts'

const servers: ScriptedServer[] = []
const connections: NbdConnection[] = []

afterEach(async () => {
  await Promise.all(connections.splice(0).map((connection) => connection.close()))
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

async function connectTo(script: (peer: Peer) => Promise<void>, options: NbdOptions = {}): Promise<NbdConnection> {
  const server = await startScriptedNbdServer(script)
  servers.push(server)
  const connection = await NbdConnection.connect(server.endpoint, { connectTimeoutMs: 5_000, ...options })
  connections.push(connection)
  return connection
}

/** Greets, then lets `answer` reply to each option. */
function bargaining(answer: (option: number, data: Buffer, peer: Peer) => Buffer, flags = 3) {
  return async (peer: Peer): Promise<void> => {
    peer.send(greeting(flags))
    await peer.read(4)
    for (;;) {
      const { option, data } = await readOption(peer)
      peer.send(answer(option, data, peer))
    }
  }
}

const exportInfo = (sizeBytes: number | bigint, flags = 1): Buffer => optionReply(7, 3, bytes(u16(0), u64(sizeBytes), u16(flags)))
const sizesInfo = (min: number, preferred: number, max: number): Buffer =>
  optionReply(7, 3, bytes(u16(3), u32(min), u32(preferred), u32(max)))

describe('what is agreed on', () => {
  test('all flags and sizes of the export, unknown information ignored', async () => {
    const asked: [number, string][] = []
    const connection = await connectTo(
      bargaining((option, data) => {
        asked.push([option, data.toString('hex')])
        return bytes(
          optionReply(7, 3, bytes(u16(1), 'a name')),
          optionReply(7, 3, bytes(u16(2), 'a description')),
          sizesInfo(512, 65536, 0xffffffff),
          exportInfo(123 * 512, 1 | 2 | 4 | 8 | 32 | 64 | 128 | 256),
          optionReply(7, 1),
        )
      }),
    )
    expect(connection.export).toEqual({
      sizeBytes: 123 * 512,
      readOnly: true,
      canFlush: true,
      canFua: true,
      canTrim: true,
      canWriteZeroes: true,
      canMultiConn: true,
      canDf: true,
      minBlockBytes: 512,
      preferredBlockBytes: 65536,
      maxBlockBytes: 32 * 1024 * 1024,
      metaContexts: [],
    })
    expect(asked).toEqual([[7, bytes(u32(4), 'disk', u16(1), u16(3)).toString('hex')]])
  })

  test('flags without "has flags" mean nothing', async () => {
    const connection = await connectTo(bargaining(() => bytes(exportInfo(512, 0xfffe), optionReply(7, 1))))
    expect(connection.export).toMatchObject({ readOnly: false, canFlush: false, canMultiConn: false })
  })

  test('metadata contexts are asked for with the export’s name, after structured replies', async () => {
    const asked: [number, string][] = []
    const connection = await connectTo(
      bargaining((option, data) => {
        asked.push([option, data.toString('hex')])
        if (option === 8) return optionReply(8, 1)
        if (option === 10) return bytes(optionReply(10, 4, bytes(u32(5), 'qemu:dirty-bitmap:b1')), optionReply(10, 1))
        return bytes(exportInfo(512), optionReply(7, 1))
      }),
      { metaContexts: ['base:allocation', 'qemu:dirty-bitmap:b1'] },
    )
    expect(connection.export.metaContexts).toEqual(['qemu:dirty-bitmap:b1'])
    expect(asked.slice(0, 2)).toEqual([
      [8, ''],
      [10, bytes(u32(4), 'disk', u32(2), u32(15), 'base:allocation', u32(20), 'qemu:dirty-bitmap:b1').toString('hex')],
    ])
  })

  test.each([0x80000001, 0x80000002, 0x80000003])(
    'structured replies refused with %i: no contexts, still connected',
    async (refusal) => {
      const connection = await connectTo(
        bargaining((option) => (option === 8 ? optionReply(8, refusal, 'no') : bytes(exportInfo(512), optionReply(7, 1)))),
        { metaContexts: ['base:allocation'] },
      )
      expect(connection.export.metaContexts).toEqual([])
    },
  )

  test('a server that does not know metadata contexts', async () => {
    const connection = await connectTo(
      bargaining((option) => {
        if (option === 8) return optionReply(8, 1)
        return option === 10 ? optionReply(10, 0x80000001) : bytes(exportInfo(512), optionReply(7, 1))
      }),
      { metaContexts: ['base:allocation'] },
    )
    expect(connection.export.metaContexts).toEqual([])
  })

  test.each([true, false])('without NBD_OPT_GO the export is entered by name (no zeroes: %s)', async (noZeroes) => {
    const connection = await connectTo((peer) => shakeHands(peer, { sizeBytes: 4096, go: false, noZeroes }))
    expect(connection.export).toMatchObject({ sizeBytes: 4096, minBlockBytes: 1, maxBlockBytes: 32 * 1024 * 1024 })
  })

  test('without fixed newstyle only the name is sent', async () => {
    const flags = Promise.withResolvers<Buffer>()
    const connection = await connectTo(
      async (peer) => {
        peer.send(greeting(0))
        flags.resolve(await peer.read(4))
        const { option, data } = await readOption(peer)
        if (option === 1 && data.toString() === 'disk') peer.send(u64(1024), u16(1 | 4), Buffer.alloc(124))
      },
      { metaContexts: ['base:allocation'] },
    )
    expect(connection.export).toMatchObject({ sizeBytes: 1024, canFlush: true, metaContexts: [] })
    expect((await flags.promise).readUInt32BE(0)).toBe(0)
  })

  test('a handshake that arrives byte by byte', async () => {
    const connection = await connectTo(async (peer) => {
      for (const byte of greeting(3)) {
        peer.send(Buffer.from([byte]))
        await new Promise((resolve) => setImmediate(resolve))
      }
      await peer.read(4)
      await readOption(peer)
      for (const byte of bytes(exportInfo(777), optionReply(7, 1))) {
        peer.send(Buffer.from([byte]))
        await new Promise((resolve) => setImmediate(resolve))
      }
      await peer.gone
    })
    expect(connection.export.sizeBytes).toBe(777)
  })
})

describe('malformed handshakes', () => {
  const go = (...replies: Buffer[]) => bargaining(() => bytes(...replies))
  const cases: [string, (peer: Peer) => Promise<void>, RegExp][] = [
    ['not an NBD server', async (peer) => peer.send('HTTP/1.1 400 Bad Request\r\n\r\n'), /first bytes/],
    ['oldstyle', async (peer) => peer.send('NBDMAGIC', u64(0x00420281861253n), u64(1), Buffer.alloc(128)), /oldstyle/],
    ['unknown style', async (peer) => peer.send('NBDMAGIC', 'IWANTOPT', u16(3)), /unknown handshake/],
    ['wrong reply magic', go(bytes(u64(1), u32(7), u32(1), u32(0))), /wrong magic/],
    ['reply to another option', go(optionReply(6, 1)), /answered option 6/],
    ['reply of 4 GiB', go(bytes(u64(0x0003e889045565a9n), u32(7), u32(3), u32(0xffffffff))), /claims 4294967295 bytes/],
    ['error text of 1 MiB', go(bytes(u64(0x0003e889045565a9n), u32(7), u32(0x80000006), u32(1048576))), /claims 1048576 bytes/],
    ['acknowledged without size', go(optionReply(7, 1)), /without telling its size/],
    ['unknown reply type', go(optionReply(7, 77)), /unexpected type 77/],
    ['information without kind', go(optionReply(7, 3, 'x')), /unexpected type 3/],
    ['export information too short', go(optionReply(7, 3, bytes(u16(0), u64(1)))), /8 bytes where 10/],
    ['block sizes too long', go(optionReply(7, 3, bytes(u16(3), Buffer.alloc(20)))), /20 bytes where 12/],
    ['smallest block of 0', go(sizesInfo(0, 512, 512)), /make no sense/],
    ['smallest block of 3', go(sizesInfo(3, 512, 512)), /make no sense/],
    ['smallest block of 1 MiB', go(sizesInfo(1048576, 1048576, 1048576)), /make no sense/],
    ['largest block below the smallest', go(sizesInfo(4096, 4096, 512)), /make no sense/],
    ['a disk of 2^64-1 bytes', go(exportInfo(2n ** 64n - 1n)), /more than 8 PiB/],
    ['replies without end', go(...Array.from({ length: 300 }, () => optionReply(7, 3, bytes(u16(9))))), /without end/],
    [
      'bytes without end',
      async (peer) => peer.send('NBDMAGIC', 'IHAVEOPT', u16(3), Buffer.alloc(1024 * 1024)),
      /without end|wrong magic/,
    ],
  ]
  test.each(cases)('%s', async (_name, script, message) => {
    await expect(connectTo(script)).rejects.toMatchObject({ code: 'NBD_PROTOCOL_ERROR', message: expect.stringMatching(message) })
  })

  const contexts: [string, Buffer, RegExp][] = [
    ['unasked', optionReply(10, 4, bytes(u32(1), 'base:evil\n\u001b[2J')), /"base:evil \[2J" unasked/],
    ['without name', optionReply(10, 4, u32(1)), /unexpected type 4/],
    ['twice', bytes(...[1, 2].map((id) => optionReply(10, 4, bytes(u32(id), 'base:allocation')))), /twice/],
    ['of unknown type', optionReply(10, 3, u32(1)), /unexpected type 3/],
  ]
  test.each(contexts)('metadata context %s', async (_name, reply, message) => {
    const connecting = connectTo(
      bargaining((option) => (option === 8 ? optionReply(8, 1) : reply)),
      { metaContexts: ['base:allocation'] },
    )
    await expect(connecting).rejects.toMatchObject({ code: 'NBD_PROTOCOL_ERROR', message: expect.stringMatching(message) })
  })
})

describe('no connection', () => {
  const refusals: [number, RegExp, boolean][] = [
    [0x80000006, /no export of this name \("gone fishing"\)/, false],
    [0x80000005, /requires TLS/, false],
    [0x80000002, /policy/, false],
    [0x80000007, /shutting down/, true],
    [0x800000ff, /error 2147483903/, false],
  ]
  test.each(refusals)('refused with %i', async (type, message, retryable) => {
    const connecting = connectTo(bargaining(() => optionReply(7, type, 'gone\nfishing')))
    await expect(connecting).rejects.toMatchObject({
      code: 'NBD_CONNECT_FAILED',
      message: expect.stringMatching(message),
      retryable,
    })
  })

  test('no socket', async () => {
    const endpoint = { type: 'unix', path: '/nonexistent/holdfast.sock', exportName: '' } as const
    await expect(NbdConnection.connect(endpoint)).rejects.toMatchObject({
      code: 'NBD_CONNECT_FAILED',
      message: expect.stringContaining('nbd+unix:///?socket=/nonexistent/holdfast.sock: connect ENOENT'),
      retryable: true,
    })
  })

  test('nobody listens on the port', async () => {
    const listener = createServer()
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    const address = listener.address()
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0
    await new Promise((resolve) => listener.close(resolve))
    const endpoint = { type: 'tcp', host: '127.0.0.1', port, exportName: 'a/b' } as const
    await expect(NbdConnection.connect(endpoint)).rejects.toMatchObject({
      code: 'NBD_CONNECT_FAILED',
      message: expect.stringContaining(`nbd://127.0.0.1:${port}/a%2Fb: connect ECONNREFUSED`),
    })
  })

  test('hung up in the handshake', async () => {
    const connecting = connectTo(async (peer) => {
      peer.send(greeting(3))
      peer.hangUp()
    })
    await expect(connecting).rejects.toMatchObject({
      code: 'NBD_CONNECT_FAILED',
      message: expect.stringMatching(/hung up during the handshake/),
    })
  })

  test.each([
    ['before the greeting', bytes()],
    ['in the greeting', greeting(3).subarray(0, 11)],
    ['after the greeting', greeting(3)],
  ])('silent %s: NBD_TIMEOUT, and the socket is closed', async (_name, said) => {
    const gone = Promise.withResolvers<void>()
    const connecting = connectTo(
      async (peer) => {
        peer.send(said)
        await peer.gone
        gone.resolve()
      },
      { connectTimeoutMs: 60 },
    )
    await expect(connecting).rejects.toMatchObject({
      code: 'NBD_TIMEOUT',
      message: expect.stringMatching(/handshake within 60 ms/),
    })
    await gone.promise
  })
})
