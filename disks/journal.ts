/**
 * The journal of a transfer (`disk-<n>.journal` in the staging folder): one JSON line per checkpoint. A line is appended only when
 * everything it claims is durable, so after any crash the last whole line is the truth.
 */
import { open, readFile, type FileHandle } from 'node:fs/promises'
import type { Compression } from '../domain/backup.ts'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'

/** What must be equal for a transfer to go on where it stopped. */
export interface TransferIdentity {
  /** The frozen content that is being read. */
  snapshotId: string
  parentBackupId: string | null
  sizeBytes: number
  compression: Compression
}

export interface Checkpoint {
  /** Every block below this is durable, data and digest: a multiple of the block size, or the disk's size. */
  positionBytes: number
  /** Data bytes written below `positionBytes`, before compression. */
  writtenBytes: number
}

export class Journal {
  readonly #file: FileHandle
  readonly #identity: TransferIdentity

  /** Opens for appending; makes the file if it is missing. */
  static async open(path: string, identity: TransferIdentity): Promise<Journal> {
    return new Journal(await open(path, 'a'), identity)
  }

  private constructor(file: FileHandle, identity: TransferIdentity) {
    this.#file = file
    this.#identity = identity
  }

  /** Appends and syncs. The leading line break ends a line that a crash tore. */
  async append(checkpoint: Checkpoint): Promise<void> {
    const entry = { ...this.#identity, ...checkpoint, at: new Date().toISOString() }
    await this.#file.appendFile(`\n${JSON.stringify(entry)}\n`)
    await this.#file.datasync()
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** The newest checkpoint of this very transfer; `null` when there is none, or when the newest line belongs to another transfer. */
export async function readCheckpoint(path: string, identity: TransferIdentity): Promise<Checkpoint | null> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
    throw error
  })
  const lines = text.split('\n').filter((line) => line !== '')
  for (const line of lines.toReversed()) {
    const entry = parseLine(line)
    if (entry) return belongsTo(entry, identity) ? checkpointOf(entry, identity.sizeBytes) : null
  }
  return null
}

/** A torn line is no line. */
function parseLine(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? { ...value } : null
  } catch {
    return null
  }
}

function belongsTo(entry: Record<string, unknown>, identity: TransferIdentity): boolean {
  return Object.entries(identity).every(([key, value]) => entry[key] === value)
}

function checkpointOf(entry: Record<string, unknown>, sizeBytes: number): Checkpoint | null {
  const { positionBytes, writtenBytes } = entry
  if (!isCount(positionBytes) || !isCount(writtenBytes) || positionBytes > sizeBytes) return null
  return positionBytes % BLOCK_SIZE_BYTES === 0 || positionBytes === sizeBytes ? { positionBytes, writtenBytes } : null
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
