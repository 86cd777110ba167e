/**
 * `manifest.json`: readable JSON that checks itself. Its last member, `checksum`, is the SHA-256 (hex) of every byte of the file
 * before that member's line, and the lines after it are fixed, so that one flipped bit anywhere in the file is found.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import { MANIFEST_FORMAT, MANIFEST_VERSION } from '../domain/manifest.ts'
import type { Manifest } from '../domain/manifest.ts'
import { writeDurably } from './durable-files.ts'
import { errnoOf } from './file-errors.ts'
import { checkManifest } from './manifest-schema.ts'

/** A manifest of 1,024 disks and a large VM definition is far below this; more is not a manifest. */
const SIZE_MAX_BYTES = 16 * 1024 * 1024
const TAIL = /^ {2}"checksum": "([0-9a-f]{64})"\n\}\n$/
const TAIL_BYTES = '  "checksum": ""\n}\n'.length + 64

/** The file's text. `INTERNAL` when the manifest is not valid: what we would refuse to read is never written. */
export function renderManifest(manifest: Manifest): string {
  const checked = checkManifest(manifest)
  if ('fault' in checked) {
    throw new HoldfastError(
      'INTERNAL',
      `The manifest of ${manifest.backup_id} is not valid and was not written: ${checked.fault}.`,
    )
  }
  const body = `${JSON.stringify(manifest, null, 2).slice(0, -2)},\n`
  return `${body}  "checksum": "${sha256(Buffer.from(body))}"\n}\n`
}

/**
 * The manifest in `bytes`. `BACKUP_CORRUPT` when a byte was changed, the format version is not known, or its members contradict each other.
 * @param file the file's path, for the message.
 */
export function parseManifest(bytes: Buffer, file: string): Manifest {
  const body = bytes.subarray(0, Math.max(0, bytes.length - TAIL_BYTES))
  const tail = TAIL.exec(bytes.subarray(body.length).toString('latin1'))
  if (!tail) throw corrupt(file, 'it does not end with its checksum: it was cut short or changed')
  if (tail[1] !== sha256(body)) throw corrupt(file, 'its checksum does not fit: it was changed after it was written')
  return checkedManifest(jsonOf(bytes, file), file)
}

/** Reads and checks one manifest. `BACKUP_CORRUPT` when it is missing or damaged; a failing read is thrown as it came. */
export async function readManifestFile(file: string): Promise<Manifest> {
  return parseManifest(await readWhole(file), file)
}

/** Writes the manifest and fsyncs it, then reads it back: what is published is what can be read. */
export async function writeManifestFile(file: string, manifest: Manifest): Promise<void> {
  await writeDurably(file, renderManifest(manifest))
  await readManifestFile(file)
}

async function readWhole(file: string): Promise<Buffer> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') throw corrupt(file, 'it is missing')
    if (errnoOf(error) === 'ELOOP') throw corrupt(file, 'it is a symbolic link')
    throw error
  })
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) throw corrupt(file, 'it is not a regular file')
    if (stats.size > SIZE_MAX_BYTES) throw corrupt(file, `it is ${stats.size} bytes long, more than any manifest`)
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

function jsonOf(bytes: Buffer, file: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch (cause) {
    throw corrupt(file, 'it is not JSON', cause)
  }
}

function checkedManifest(value: unknown, file: string): Manifest {
  if (typeof value !== 'object' || value === null || !('format' in value) || !('format_version' in value)) {
    throw corrupt(file, 'it does not say what it is')
  }
  if (value.format !== MANIFEST_FORMAT || value.format_version !== MANIFEST_VERSION) {
    const found = `${String(value.format)} version ${String(value.format_version)}`
    throw corrupt(
      file,
      `it is ${found}; this Holdfast reads ${MANIFEST_FORMAT} version ${MANIFEST_VERSION}: use a newer Holdfast`,
    )
  }
  const { checksum: _checksum, ...members } = { checksum: null, ...value }
  const checked = checkManifest(members)
  if ('fault' in checked) throw corrupt(file, checked.fault)
  return checked.manifest
}

function corrupt(file: string, reason: string, cause?: unknown): HoldfastError {
  return new HoldfastError('BACKUP_CORRUPT', `The manifest ${file} cannot be used: ${reason}.`, {
    cause,
    details: { file, reason },
  })
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
