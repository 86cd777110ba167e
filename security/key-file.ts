/** Keys in files that only we can read, made once. */
import { randomBytes } from 'node:crypto'
import { link, mkdir, open, readFile, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'

const KEY_BYTES = 32
const OTHERS = 0o077

/**
 * Reads 32 bytes from `keysFolder/name`, or makes them. Several processes may call it at once and all get the same key.
 * `INTERNAL` when the file is damaged or other users may read it. @param loss what deleting the key would cost, for people.
 */
export async function loadKeyFile(keysFolder: string, name: string, loss: string): Promise<Uint8Array> {
  const path = join(keysFolder, name)
  return (await readKey(path, loss)) ?? createKey(keysFolder, path, loss)
}

async function readKey(path: string, loss: string): Promise<Uint8Array | undefined> {
  let key: Buffer
  try {
    key = await readFile(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw new HoldfastError('INTERNAL', `The key ${path} cannot be read.`, { cause: error })
  }
  const { mode } = await stat(path)
  if ((mode & OTHERS) !== 0) {
    throw new HoldfastError(
      'INTERNAL',
      `The key ${path} is open to other users. Nobody else may have read it: take their rights away (chmod 600), or delete it; then ${loss}.`,
    )
  }
  if (key.length !== KEY_BYTES) {
    throw new HoldfastError(
      'INTERNAL',
      `The key ${path} has ${key.length} bytes instead of ${KEY_BYTES}: put the right one back, or delete it; then ${loss}.`,
    )
  }
  return new Uint8Array(key)
}

/** Writes a draft first and links it into place: the first link wins, and nobody ever reads half a key. */
async function createKey(keysFolder: string, path: string, loss: string): Promise<Uint8Array> {
  await mkdir(keysFolder, { recursive: true, mode: 0o700 })
  const draft = `${path}.${process.pid}.${randomBytes(6).toString('hex')}`
  const file = await open(draft, 'wx', 0o600)
  try {
    await file.writeFile(randomBytes(KEY_BYTES))
    await file.sync()
    await link(draft, path)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    // Another process was first; its key counts.
  } finally {
    await file.close()
    await unlink(draft)
  }
  const key = await readKey(path, loss)
  if (key === undefined) throw new HoldfastError('INTERNAL', `The key ${path} vanished while it was being made: start again.`)
  return key
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
