/** Keys in files that only we can read, made once. */
import { randomBytes } from 'node:crypto'
import { link, mkdir, open, unlink } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import type { ErrorCode } from '../domain/errors.ts'

const KEY_BYTES = 32
const OTHERS = 0o077

/** How a damaged key is told to people. */
export interface KeyAdvice {
  code: ErrorCode
  /** Ends the sentence "put the right one back, or …": what to do without it, and what that costs. */
  otherwise: string
}

export interface KeyOwner {
  uid: number
  gid: number
}

/**
 * Reads 32 bytes from `keysFolder/name`, or makes them. Several processes may call it at once and all get the same key.
 * `INTERNAL` when the file is damaged or other users may read it. @param loss what deleting the key would cost, for people.
 */
export async function loadKeyFile(keysFolder: string, name: string, loss: string): Promise<Uint8Array> {
  const advice: KeyAdvice = { code: 'INTERNAL', otherwise: `delete it; then ${loss}` }
  const path = join(keysFolder, name)
  return (await readKeyFile(path, advice)) ?? makeKeyFile(path, advice)
}

/** `undefined` when there is none. The code of `advice` when it is damaged or other users may read it. */
export async function readKeyFile(path: string, { code, otherwise }: KeyAdvice): Promise<Uint8Array | undefined> {
  let key: Buffer
  let mode: number
  try {
    // One open file: a name may stand for another one a moment later.
    await using file = await open(path)
    key = await file.readFile()
    mode = (await file.stat()).mode
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw new HoldfastError(code, `The key ${path} cannot be read.`, { cause: error })
  }
  if ((mode & OTHERS) !== 0) {
    throw new HoldfastError(
      code,
      `The key ${path} is open to other users. Nobody else may have read it: take their rights away (chmod 600), or ${otherwise}.`,
    )
  }
  if (key.length !== KEY_BYTES) {
    throw new HoldfastError(
      code,
      `The key ${path} has ${key.length} bytes instead of ${KEY_BYTES}: put the right one back, or ${otherwise}.`,
    )
  }
  return new Uint8Array(key)
}

/**
 * Makes the key, or reads the one that another process has made meanwhile; returns when it would outlive a loss of power. Writes a draft first and
 * links it into place: the first link wins, and nobody ever reads half a key.
 * @param owner whose it shall be, for a command that is run by root.
 */
export async function makeKeyFile(path: string, advice: KeyAdvice, owner?: KeyOwner): Promise<Uint8Array> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const draft = draftOf(path)
  const file = await open(draft, 'wx', 0o600)
  try {
    await writeKey(file, owner)
    await link(draft, path)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    // Another process was first; its key counts.
  } finally {
    await file.close()
    await unlink(draft)
  }
  await syncFolder(dirname(path))
  const key = await readKeyFile(path, advice)
  if (key === undefined) throw new HoldfastError(advice.code, `The key ${path} vanished while it was being made: start again.`)
  return key
}

/** A name beside `path` that nobody else uses. */
export function draftOf(path: string): string {
  return `${path}.${process.pid}.${randomBytes(6).toString('hex')}`
}

/** What was linked, renamed or removed in it stays so after a loss of power. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

async function writeKey(file: FileHandle, owner: KeyOwner | undefined): Promise<void> {
  if (owner && process.getuid?.() === 0) await file.chown(owner.uid, owner.gid)
  await file.writeFile(randomBytes(KEY_BYTES))
  await file.sync()
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
