/**
 * The NBD protocol's numbers and byte layouts, as pure functions. All integers on the wire are big-endian.
 * Source: the NBD protocol document (NetworkBlockDevice/nbd, doc/proto.md); comments name its sections.
 */

/** NBD protocol, section "Newstyle negotiation": the greeting. */
export const GREETING_MAGIC = 0x4e42444d41474943n // "NBDMAGIC"
export const NEWSTYLE_MAGIC = 0x49484156454f5054n // "IHAVEOPT"
export const OLDSTYLE_MAGIC = 0x00420281861253n
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n

/** NBD protocol, section "Transmission phase". */
export const REQUEST_MAGIC = 0x25609513
export const SIMPLE_REPLY_MAGIC = 0x67446698
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef
export const REQUEST_BYTES = 28

/** NBD protocol, section "Handshake flags"; the client's flags have the same values. */
export const handshakeFlags = { fixedNewstyle: 1, noZeroes: 2 } as const

/** NBD protocol, section "Transmission flags". */
export const transmissionFlags = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDontFragment: 1 << 7,
  canMultiConn: 1 << 8,
} as const

/** NBD protocol, section "Option types". */
export const options = { exportName: 1, go: 7, structuredReply: 8, setMetaContext: 10 } as const

/** NBD protocol, section "Option reply types". Error types have the top bit set. */
export const optionReplies = { ack: 1, info: 3, metaContext: 4 } as const
export const optionErrors = {
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  platform: 0x80000004,
  tlsRequired: 0x80000005,
  unknownExport: 0x80000006,
  shutdown: 0x80000007,
  blockSizeRequired: 0x80000008,
  tooBig: 0x80000009,
} as const

/** NBD protocol, section "Option types", NBD_OPT_GO: kinds of information. */
export const infoTypes = { export: 0, blockSize: 3 } as const

/** NBD protocol, section "Request types". */
export const commands = { read: 0, write: 1, disconnect: 2, flush: 3, writeZeroes: 6, blockStatus: 7 } as const
export type Command = (typeof commands)[keyof typeof commands]

/** NBD protocol, section "Command flags". */
export const commandFlags = { none: 0, noHole: 1 << 1 } as const

/** NBD protocol, section "Structured reply types". Error chunks have bit 15 set. */
export const chunks = { none: 0, offsetData: 1, offsetHole: 2, blockStatus: 5, error: 0x8001, errorOffset: 0x8002 } as const
export const chunkErrorBit = 0x8000
export const chunkDoneFlag = 1

/** Longest string either side may send. NBD protocol, section "String". */
export const STRING_BYTES_MAX = 4096

/** NBD protocol, section "Metadata contexts": `base:allocation` and the flags of its extents. */
export const BASE_ALLOCATION = 'base:allocation'
export const STATE_HOLE = 1
export const STATE_ZERO = 2
/** Flag of a `qemu:dirty-bitmap:*` extent: written since the bitmap began. */
export const STATE_DIRTY = 1
/** QEMU's own context (docs/interop/nbd.txt): 0 where nothing is allocated, 1 in the image itself, 2 in its backing file … */
export const ALLOCATION_DEPTH = 'qemu:allocation-depth'
export const DIRTY_BITMAP_PREFIX = 'qemu:dirty-bitmap:'

const TWO_TO_32 = 2 ** 32

/** Reads an unsigned 64-bit number; `NaN` above 2^53 - 1, which every range check then refuses. */
export function readUint64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32BE(at) * TWO_TO_32 + bytes.readUInt32BE(at + 4)
  return Number.isSafeInteger(value) ? value : Number.NaN
}

function writeUint64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / TWO_TO_32), at)
  bytes.writeUInt32BE(value % TWO_TO_32, at + 4)
}

export interface Request {
  command: Command
  flags: number
  cookie: number
  offset: number
  length: number
}

/** The 28 bytes of a request. NBD protocol, section "Request message". */
export function encodeRequest(request: Request): Buffer {
  const bytes = Buffer.allocUnsafe(REQUEST_BYTES)
  bytes.writeUInt32BE(REQUEST_MAGIC, 0)
  bytes.writeUInt16BE(request.flags, 4)
  bytes.writeUInt16BE(request.command, 6)
  writeUint64(bytes, request.cookie, 8)
  writeUint64(bytes, request.offset, 16)
  bytes.writeUInt32BE(request.length, 24)
  return bytes
}

/** An option of the handshake with its data. NBD protocol, section "Fixed newstyle negotiation". */
export function encodeOption(option: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(16)
  head.writeBigUInt64BE(NEWSTYLE_MAGIC, 0)
  head.writeUInt32BE(option, 8)
  head.writeUInt32BE(data.length, 12)
  return Buffer.concat([head, data])
}

function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  const head = Buffer.alloc(4)
  head.writeUInt32BE(bytes.length, 0)
  return Buffer.concat([head, bytes])
}

/** Data of NBD_OPT_GO: the export's name and the information asked for. */
export function encodeGo(exportName: string, infos: readonly number[]): Buffer {
  const tail = Buffer.alloc(2 + 2 * infos.length)
  tail.writeUInt16BE(infos.length, 0)
  for (const [index, info] of infos.entries()) tail.writeUInt16BE(info, 2 + 2 * index)
  return Buffer.concat([encodeString(exportName), tail])
}

/** Data of NBD_OPT_SET_META_CONTEXT: the export's name and the contexts asked for. */
export function encodeMetaContextQuery(exportName: string, contexts: readonly string[]): Buffer {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(contexts.length, 0)
  return Buffer.concat([encodeString(exportName), count, ...contexts.map(encodeString)])
}

const errnoNames: Record<number, string> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  108: 'ESHUTDOWN',
}

/** Name of an error number. NBD protocol, section "Error values". Unknown numbers keep theirs. */
export function errnoName(errno: number): string {
  return errnoNames[errno] ?? `errno ${errno}`
}

/** Text from a server, fit for a message: one line, no control characters, not too long. */
export function readableText(bytes: Buffer): string {
  const text = bytes
    .toString('utf8')
    .replace(/\p{C}+/gu, ' ')
    .trim()
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}
