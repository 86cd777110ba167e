/**
 * The keys that seal credentials, as files of `keys/`. `credentials.key` seals. While a rotation is under way its successor lies beside it as
 * `credentials.key.next`, and what it replaced stays as `credentials.key.old-<id>`: credentials are opened with whichever of them sealed them.
 */
import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { makeKeyFile, readKeyFile } from './key-file.ts'
import type { KeyAdvice, KeyOwner } from './key-file.ts'

export const CREDENTIALS_KEY_FILE = 'credentials.key'
export const FORGET_COMMAND = 'npm run forget-lost-credentials'
const NEXT_KEY_FILE = `${CREDENTIALS_KEY_FILE}.next`
const OLD_KEY_FILE = new RegExp(`^${CREDENTIALS_KEY_FILE.replace('.', '\\.')}\\.old-[0-9a-f]{16}$`)
const ID_BYTES = 8

export const credentialsKeyAdvice: KeyAdvice = {
  code: 'CREDENTIALS_KEY_INVALID',
  otherwise: `move it away and run "${FORGET_COMMAND}": what it sealed must then be given again`,
}

export interface CredentialsKey {
  /** Tells keys apart and nothing about them: 16 hexadecimal digits of their SHA-256. */
  id: string
  bytes: Uint8Array
  path: string
}

export function credentialsKeyPath(keysFolder: string): string {
  return join(keysFolder, CREDENTIALS_KEY_FILE)
}

export function nextKeyPath(keysFolder: string): string {
  return join(keysFolder, NEXT_KEY_FILE)
}

export function oldKeyPath(keysFolder: string, id: string): string {
  return join(keysFolder, `${CREDENTIALS_KEY_FILE}.old-${id}`)
}

/** As it is in the file now. `undefined` when there is none. `CREDENTIALS_KEY_INVALID` when it is damaged or others may read it. */
export async function readCredentialsKey(path: string): Promise<CredentialsKey | undefined> {
  const bytes = await readKeyFile(path, credentialsKeyAdvice)
  return bytes && toKey(path, bytes)
}

/** The same, where there must be one. */
export async function requireCredentialsKey(path: string): Promise<CredentialsKey> {
  const key = await readCredentialsKey(path)
  if (!key) throw new HoldfastError('CREDENTIALS_KEY_INVALID', `The key ${path} has just vanished: put it back, and try again.`)
  return key
}

/** Makes it where there is none: for a catalog without credentials only. `CREDENTIALS_KEY_INVALID` */
export async function makeCredentialsKey(path: string, owner?: KeyOwner): Promise<CredentialsKey> {
  return (await readCredentialsKey(path)) ?? toKey(path, await makeKeyFile(path, credentialsKeyAdvice, owner))
}

/**
 * All that are here. In this order no rotation beside us hides one: the next key is there from before it seals anything until it has become the
 * current one, and the old one is kept before it is replaced. `CREDENTIALS_KEY_INVALID`
 */
export async function readCredentialsKeys(keysFolder: string): Promise<CredentialsKey[]> {
  const next = await readCredentialsKey(nextKeyPath(keysFolder))
  const current = await readCredentialsKey(credentialsKeyPath(keysFolder))
  const old: (CredentialsKey | undefined)[] = []
  for (const name of await namesIn(keysFolder)) {
    if (OLD_KEY_FILE.test(name)) old.push(await readCredentialsKey(join(keysFolder, name)))
  }
  return [current, next, ...old].filter((key) => key !== undefined)
}

function toKey(path: string, bytes: Uint8Array): CredentialsKey {
  return {
    id: createHash('sha256')
      .update(bytes)
      .digest('hex')
      .slice(0, ID_BYTES * 2),
    bytes,
    path,
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return []
    throw new HoldfastError('CREDENTIALS_KEY_INVALID', `The folder of keys, ${folder}, cannot be read.`, { cause })
  }
}
