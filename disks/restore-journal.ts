/**
 * The journal of a restore: a small JSON file, replaced as a whole. It is written before the file that it describes, so that a
 * `.partial` without a journal is never ours, and it claims only what is durable.
 */
import { constants } from 'node:fs'
import { open, readFile, rename, rm, type FileHandle } from 'node:fs/promises'
import { z } from 'zod'
import { writeFully } from './positional-io.ts'

/** Which file it is, whatever its name. */
export interface FileIdentity {
  device: string
  inode: string
}

/** What must be equal for a restore to go on where it stopped. */
export interface RestoreIdentity {
  /** Another restore of the same disk to the same target is another restore: both would write. */
  restoreId: string
  backupId: string
  diskIndex: number
  /** Hash root of the disk at that point. */
  blocksSha256: string
  sizeBytes: number
  targetFormat: 'raw' | 'qcow2'
}

export interface RestoreJournal extends RestoreIdentity {
  /** Every block below is durable in the file. */
  reachedBytes: number
  /** `null` until the file exists. */
  file: FileIdentity | null
  /** The empty file that holds the target's name where files cannot have two; `null` nearly always. */
  placeholder?: FileIdentity | null
}

const FORMAT = 'holdfast-restore'

const fileIdentity = z.strictObject({ device: z.string(), inode: z.string() })
const schema = z.strictObject({
  format: z.literal(FORMAT),
  format_version: z.literal(1),
  restoreId: z.string(),
  backupId: z.string(),
  diskIndex: z.int().nonnegative(),
  blocksSha256: z.string(),
  sizeBytes: z.int().nonnegative(),
  targetFormat: z.enum(['raw', 'qcow2']),
  reachedBytes: z.int().nonnegative(),
  file: fileIdentity.nullable(),
  placeholder: fileIdentity.nullable().default(null),
})

/** The journal at `path`; `null` when there is none; `foreign` when a file lies there that no restore wrote. */
export async function readRestoreJournal(path: string): Promise<RestoreJournal | 'foreign' | null> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  })
  if (text === null) return null
  const parsed = schema.safeParse(parsedJson(text))
  if (!parsed.success) return 'foreign'
  const { format: _format, format_version: _version, ...journal } = parsed.data
  return journal
}

/** Replaces the journal: after a crash it is the old one or the new one. On failure the old one stays, and nothing beside it. */
export async function writeRestoreJournal(path: string, journal: RestoreJournal): Promise<void> {
  const fresh = freshJournal(path)
  // Whatever lies there is a leftover, or a link that somebody laid out for us to write through.
  await rm(fresh, { force: true })
  const file = await open(fresh, NEW_FILE, 0o600)
  try {
    await writeAndClose(file, `${JSON.stringify({ format: FORMAT, format_version: 1, ...journal }, null, 2)}\n`)
    await rename(fresh, path)
  } catch (error) {
    // The full file system is what matters, not that the leftover could not be removed.
    await rm(fresh, { force: true }).catch(() => {})
    throw error
  }
}

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

async function writeAndClose(file: FileHandle, text: string): Promise<void> {
  try {
    await writeFully(file, Buffer.from(text), 0)
    await file.datasync()
  } finally {
    await file.close()
  }
}

/** The next journal while it is being written; a crash leaves it behind. */
export function freshJournal(path: string): string {
  return `${path}.new`
}

export function isSameRestore(left: RestoreIdentity, right: RestoreIdentity): boolean {
  return (['restoreId', 'backupId', 'diskIndex', 'blocksSha256', 'sizeBytes', 'targetFormat'] as const).every(
    (key) => left[key] === right[key],
  )
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Not ours: a journal is replaced by a rename and therefore never torn.
    return null
  }
}
