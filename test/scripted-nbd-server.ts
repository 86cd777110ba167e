/**
 * An NBD server whose every byte a test decides: the peer for replies that no honest server sends.
 * It encodes the protocol by itself, so that a mistake in the client's encoding cannot hide in a shared function.
 */
import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const u16 = (value: number): Buffer => Buffer.from([value >>> 8, value & 0xff])
export const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)])
export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}
export const bytes = (...parts: (Buffer | string)[]): Buffer => Buffer.concat(parts.map((part) => Buffer.from(part)))

export const SIMPLE = 0x67446698
export const STRUCTURED = 0x668e33ef

export interface ReceivedRequest {
  flags: number
  command: number
  cookie: Buffer
  offset: number
  length: number
  payload: Buffer
}

/** One client of the scripted server. `read` rejects when the client hangs up. */
export interface Peer {
  /** 0 for the first connection. */
  index: number
  read(sizeBytes: number): Promise<Buffer>
  send(...parts: (Buffer | string)[]): void
  request(): Promise<ReceivedRequest>
  hangUp(): void
  /** Resolves when the client is gone. */
  gone: Promise<void>
}

export interface ScriptedServer {
  endpoint: { type: 'unix'; path: string; exportName: string }
  /** Connections accepted so far. */
  accepted(): number
  close(): Promise<void>
}

/** Listens on a fresh unix socket and plays `script` for each connection. A script that throws just ends: clients hang up as they please. */
export async function startScriptedNbdServer(script: (peer: Peer) => Promise<void>): Promise<ScriptedServer> {
  const path = join(tmpdir(), `holdfast-nbd-${randomUUID()}.sock`)
  const sockets = new Set<Socket>()
  let accepted = 0
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    void script(peerOf(socket, accepted++)).catch(() => undefined)
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return {
    endpoint: { type: 'unix', path, exportName: 'disk' },
    accepted: () => accepted,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
      await rm(path, { force: true })
    },
  }
}

function peerOf(socket: Socket, index: number): Peer {
  let buffered = Buffer.alloc(0)
  let ended = false
  const waiters = new Set<() => void>()
  const wake = (): void => waiters.forEach((waiter) => waiter())
  const gone = new Promise<void>((resolve) => {
    socket.on('close', () => {
      ended = true
      wake()
      resolve()
    })
  })
  socket.on('error', () => undefined)
  socket.on('data', (data) => {
    buffered = Buffer.concat([buffered, Buffer.from(data)])
    wake()
  })
  const read = (sizeBytes: number): Promise<Buffer> =>
    new Promise((resolve, reject) => {
      const attempt = (): void => {
        if (buffered.length >= sizeBytes) {
          resolve(buffered.subarray(0, sizeBytes))
          buffered = buffered.subarray(sizeBytes)
        } else if (ended) reject(new Error('the client hung up'))
        else return
        waiters.delete(attempt)
      }
      waiters.add(attempt)
      attempt()
    })
  const request = async (): Promise<ReceivedRequest> => {
    const head = await read(28)
    if (head.readUInt32BE(0) !== 0x25609513) throw new Error('not a request')
    const command = head.readUInt16BE(6)
    const length = head.readUInt32BE(24)
    return {
      flags: head.readUInt16BE(4),
      command,
      cookie: Buffer.from(head.subarray(8, 16)),
      offset: Number(head.readBigUInt64BE(16)),
      length,
      payload: command === 1 ? await read(length) : Buffer.alloc(0),
    }
  }
  return { index, read, send: (...parts) => void socket.write(bytes(...parts)), request, hangUp: () => void socket.end(), gone }
}

export interface ServedExport {
  sizeBytes: number | bigint
  /** Transmission flags; default: flags, flush, write zeroes. */
  flags?: number
  structured?: boolean
  blockSizes?: [number, number, number]
  /** Granted metadata contexts by id. */
  contexts?: Record<number, string>
  go?: boolean
  noZeroes?: boolean
}

export const optionReply = (option: number, type: number, data: Buffer | string = ''): Buffer => {
  const body = Buffer.from(data)
  return bytes(u64(0x0003e889045565a9n), u32(option), u32(type), u32(body.length), body)
}

export const greeting = (flags: number): Buffer => bytes('NBDMAGIC', 'IHAVEOPT', u16(flags))

/** An option the client sent: its number and data. */
export async function readOption(peer: Peer): Promise<{ option: number; data: Buffer }> {
  const head = await peer.read(16)
  if (head.toString('latin1', 0, 8) !== 'IHAVEOPT') throw new Error('not an option')
  return { option: head.readUInt32BE(8), data: await peer.read(head.readUInt32BE(12)) }
}

/** An honest handshake up to the transmission phase. */
export async function shakeHands(peer: Peer, served: ServedExport): Promise<void> {
  const flags = served.flags ?? 1 | 4 | 64
  const noZeroes = served.noZeroes ?? true
  peer.send(greeting(noZeroes ? 3 : 1))
  await peer.read(4)
  for (;;) {
    const { option } = await readOption(peer)
    if (option === 8) peer.send(optionReply(8, served.structured ? 1 : 0x80000001))
    else if (option === 10) {
      for (const [id, name] of Object.entries(served.contexts ?? {})) peer.send(optionReply(10, 4, bytes(u32(Number(id)), name)))
      peer.send(optionReply(10, 1))
    } else if (option === 7 && served.go !== false) {
      peer.send(optionReply(7, 3, bytes(u16(0), u64(served.sizeBytes), u16(flags))))
      const [min, preferred, max] = served.blockSizes ?? []
      if (min !== undefined) peer.send(optionReply(7, 3, bytes(u16(3), u32(min), u32(preferred ?? 0), u32(max ?? 0))))
      peer.send(optionReply(7, 1))
      return
    } else if (option === 1) {
      peer.send(u64(served.sizeBytes), u16(flags), Buffer.alloc(noZeroes ? 0 : 124))
      return
    } else peer.send(optionReply(option, 0x80000001))
  }
}

export const simpleReply = (cookie: Buffer, errno = 0, payload: Buffer | string = ''): Buffer =>
  bytes(u32(SIMPLE), u32(errno), cookie, payload)

/** A structured chunk; `lengthBytes` lies when it is given. */
export const chunk = (
  cookie: Buffer,
  type: number,
  payload: Buffer,
  options: { done?: boolean; lengthBytes?: number } = {},
): Buffer =>
  bytes(
    u32(STRUCTURED),
    u16(options.done === false ? 0 : 1),
    u16(type),
    cookie,
    u32(options.lengthBytes ?? payload.length),
    payload,
  )
