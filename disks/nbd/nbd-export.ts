import { protocolError } from './endpoint.ts'
import { readUint64, transmissionFlags } from './protocol.ts'

/** What the server said about the export. Sizes in bytes. */
export interface NbdExport {
  sizeBytes: number
  readOnly: boolean
  canFlush: boolean
  canFua: boolean
  canWriteZeroes: boolean
  canTrim: boolean
  /** Several connections see each other's writes, and a flush on one covers all. */
  canMultiConn: boolean
  canDf: boolean
  /** Offsets and lengths of requests must be multiples of this. */
  minBlockBytes: number
  preferredBlockBytes: number
  /** Largest payload of one READ or WRITE; longer ones are split by us. */
  maxBlockBytes: number
  /** The metadata contexts that were asked for and granted. */
  metaContexts: string[]
}

export interface BlockSizes {
  minBlockBytes: number
  preferredBlockBytes: number
  maxBlockBytes: number
}

/** What a client may send anywhere. NBD protocol, section "Block size constraints". */
const PAYLOAD_BYTES_MAX = 32 * 1024 * 1024
const MIN_BLOCK_BYTES_MAX = 64 * 1024

/** For servers that state no constraints. NBD protocol, section "Block size constraints". */
export const defaultBlockSizes: BlockSizes = { minBlockBytes: 1, preferredBlockBytes: 4096, maxBlockBytes: PAYLOAD_BYTES_MAX }

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value))
}

/** Twelve bytes of NBD_INFO_BLOCK_SIZE. Throws NBD_PROTOCOL_ERROR for sizes that no request could satisfy. */
export function decodeBlockSizes(bytes: Buffer, endpoint: string): BlockSizes {
  const [min, preferred, max] = [bytes.readUInt32BE(0), bytes.readUInt32BE(4), bytes.readUInt32BE(8)]
  if (!isPowerOfTwo(min) || min > MIN_BLOCK_BYTES_MAX || !isPowerOfTwo(preferred) || max < min) {
    throw protocolError(endpoint, `its block size constraints ${min}/${preferred}/${max} make no sense`)
  }
  const usable = Math.min(max, PAYLOAD_BYTES_MAX)
  const maxBlockBytes = usable - (usable % min)
  return { minBlockBytes: min, preferredBlockBytes: Math.min(Math.max(preferred, min), maxBlockBytes), maxBlockBytes }
}

/** Eight bytes of size and two of transmission flags, as NBD_INFO_EXPORT and NBD_OPT_EXPORT_NAME carry them. */
export function decodeExport(bytes: Buffer, endpoint: string): Omit<NbdExport, keyof BlockSizes | 'metaContexts'> {
  const sizeBytes = readUint64(bytes, 0)
  if (Number.isNaN(sizeBytes)) throw protocolError(endpoint, 'it claims a disk of more than 8 PiB')
  const flags = bytes.readUInt16BE(8)
  const has = (flag: number): boolean => (flags & transmissionFlags.hasFlags) !== 0 && (flags & flag) !== 0
  return {
    sizeBytes,
    readOnly: has(transmissionFlags.readOnly),
    canFlush: has(transmissionFlags.sendFlush),
    canFua: has(transmissionFlags.sendFua),
    canTrim: has(transmissionFlags.sendTrim),
    canWriteZeroes: has(transmissionFlags.sendWriteZeroes),
    canMultiConn: has(transmissionFlags.canMultiConn),
    canDf: has(transmissionFlags.sendDontFragment),
  }
}
