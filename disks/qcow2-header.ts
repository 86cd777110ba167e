/**
 * Reads QCOW2 headers without QEMU, so that a hostile image is refused before any program opens it.
 * Format: https://www.qemu.org/docs/master/interop/qcow2.html
 */
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'

export interface Qcow2Header {
  version: number
  /** What a guest sees. */
  sizeBytes: number
  clusterSizeBytes: number
  /** Exactly as stored, never resolved; `null` without one. */
  backingName: string | null
  /** `null` when the header does not say: QEMU would guess. */
  backingFormat: string | null
  encrypted: boolean
  /** The data lies in another file, whose name the header holds. */
  hasDataFile: boolean
  /** Incompatible features that Holdfast never sets, by name or bit number. */
  unexpectedFeatures: string[]
}

const MAGIC = 0x514649fb
const V2_HEADER_BYTES = 72
const V3_HEADER_BYTES = 104
const BACKING_NAME_MAX_BYTES = 1023
const CLUSTER_BITS_MIN = 9
const CLUSTER_BITS_MAX = 21
/** Ours is the first cluster of a file with 64 KiB clusters; a header that needs more is refused. */
const HEADER_READ_BYTES = 64 * 1024

const extensionTypes = { end: 0, backingFormat: 0xe2792aca, dataFileName: 0x44415441, encryption: 0x0537be77 }

/** Bits of the incompatible features. `compressionType` (3) is the only one that our images have. */
const featureNames = ['dirty', 'corrupt', 'external data file', 'compression type', 'extended L2 entries']
const DATA_FILE_BIT = 2
const COMPRESSION_TYPE_BIT = 3

/** What is wrong with a file as an image of ours; the caller knows which backup it belongs to. */
export class Qcow2FormatError extends Error {
  override readonly name = 'Qcow2FormatError'
}

/** Parses the first 64 KiB of a file, or the whole file if that is shorter. Throws {@link Qcow2FormatError}. */
export function parseQcow2Header(start: Buffer): Qcow2Header {
  if (start.length < V2_HEADER_BYTES || start.readUInt32BE(0) !== MAGIC) throw new Qcow2FormatError('it is not a QCOW2 file')
  const version = start.readUInt32BE(4)
  if (version !== 2 && version !== 3) throw new Qcow2FormatError(`its QCOW2 version is ${version}`)
  if (version === 3 && (start.length < V3_HEADER_BYTES || start.readUInt32BE(100) < V3_HEADER_BYTES)) {
    throw new Qcow2FormatError('its header is too short')
  }
  const clusterBits = start.readUInt32BE(20)
  if (clusterBits < CLUSTER_BITS_MIN || clusterBits > CLUSTER_BITS_MAX) {
    throw new Qcow2FormatError(`its cluster size is 2^${clusterBits}`)
  }
  const features = version === 3 ? start.readBigUInt64BE(72) : 0n
  const extensions = readExtensions(start, version)
  return {
    version,
    sizeBytes: safeNumber(start.readBigUInt64BE(24), 'virtual size'),
    clusterSizeBytes: 2 ** clusterBits,
    backingName: readBackingName(start),
    backingFormat: extensions.get(extensionTypes.backingFormat)?.toString('utf8') ?? null,
    encrypted: start.readUInt32BE(32) !== 0 || extensions.has(extensionTypes.encryption),
    hasDataFile: hasBit(features, DATA_FILE_BIT) || extensions.has(extensionTypes.dataFileName),
    unexpectedFeatures: unexpectedFeatures(features),
  }
}

/** A header and the length of the file it stands in. */
export interface Qcow2File {
  header: Qcow2Header
  fileSizeBytes: number
}

/** Reads a file's header. Symbolic links and anything but a regular file are refused. Throws {@link Qcow2FormatError} or the system's error. */
export async function readQcow2Header(path: string): Promise<Qcow2File> {
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const { size: fileSizeBytes } = await regularFile(file)
    const start = Buffer.alloc(Math.min(fileSizeBytes, HEADER_READ_BYTES))
    const { bytesRead } = await file.read(start, 0, start.length, 0)
    return { header: parseQcow2Header(start.subarray(0, bytesRead)), fileSizeBytes }
  } finally {
    await file.close()
  }
}

async function regularFile(file: FileHandle): Promise<{ size: number }> {
  const stat = await file.stat()
  if (!stat.isFile()) throw new Qcow2FormatError('it is not a regular file')
  return stat
}

function readBackingName(start: Buffer): string | null {
  const offset = safeNumber(start.readBigUInt64BE(8), 'backing name offset')
  const length = start.readUInt32BE(16)
  if (offset === 0 || length === 0) return null
  if (length > BACKING_NAME_MAX_BYTES || offset + length > start.length) {
    throw new Qcow2FormatError(`its backing name (${length} bytes at ${offset}) lies outside the first 64 KiB`)
  }
  return start.toString('utf8', offset, offset + length)
}

function readExtensions(start: Buffer, version: number): Map<number, Buffer> {
  const extensions = new Map<number, Buffer>()
  const headerLength = version === 2 ? V2_HEADER_BYTES : start.readUInt32BE(100)
  for (let at = headerLength; at + 8 <= start.length;) {
    const type = start.readUInt32BE(at)
    if (type === extensionTypes.end) break
    const length = start.readUInt32BE(at + 4)
    if (at + 8 + length > start.length) throw new Qcow2FormatError(`its header extension at ${at} leaves the first 64 KiB`)
    extensions.set(type, start.subarray(at + 8, at + 8 + length))
    at += 8 + Math.ceil(length / 8) * 8
  }
  return extensions
}

function unexpectedFeatures(features: bigint): string[] {
  const names: string[] = []
  for (let bit = 0; bit < 64; bit++) {
    if (bit !== COMPRESSION_TYPE_BIT && hasBit(features, bit)) names.push(featureNames[bit] ?? `bit ${bit}`)
  }
  return names
}

function hasBit(features: bigint, bit: number): boolean {
  return ((features >> BigInt(bit)) & 1n) === 1n
}

function safeNumber(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Qcow2FormatError(`its ${what} is ${value}`)
  return Number(value)
}
