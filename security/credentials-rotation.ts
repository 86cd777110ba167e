/**
 * Puts a new key in place of the one that seals credentials, while everything runs. Killed between any two steps it leaves credentials that open, and
 * the next run goes on where it ended: the new key is on the disk before anything is sealed under it, all rows change in one transaction, and the
 * old key is kept.
 */
import { link, rename, stat, unlink } from 'node:fs/promises'
import { sql } from 'kysely'
import type { Catalog } from '../db/client.ts'
import { listCredentials, listCredentialsUsers, lockCredentials, resealCredentials } from '../db/queries/credentials.ts'
import { HoldfastError } from '../domain/errors.ts'
import { seal, sealingKeyId, unsealWithAny } from './credential-envelope.ts'
import { checkCredentialsKeys } from './credentials-key-check.ts'
import {
  credentialsKeyPath,
  FORGET_COMMAND,
  makeCredentialsKey,
  nextKeyPath,
  oldKeyPath,
  readCredentialsKey,
  readCredentialsKeys,
} from './credentials-keys.ts'
import type { CredentialsKey } from './credentials-keys.ts'
import { draftOf, syncFolder } from './key-file.ts'

export interface RotationOptions {
  catalog: Catalog
  keysFolder: string
  hostId: string
  /** The next key lies on the other hosts that open credentials, too. */
  copied: boolean
  /** For tests: called when a step is done. */
  afterStep?: (step: RotationStep) => Promise<void> | void
}

export type RotationStep = 'next-made' | 'resealed' | 'old-kept' | 'replaced' | 'resealed-again' | 'next-removed'

export type Rotation =
  | { kind: 'nothing-sealed' }
  /** The next key is made and must be copied before it may be used. */
  | { kind: 'prepared'; nextPath: string; hosts: string[] }
  | { kind: 'rotated'; path: string; keyId: string; oldPaths: string[]; credentials: number; hosts: string[] }

type Notice = NonNullable<RotationOptions['afterStep']>

/**
 * `CREDENTIALS_KEY_INVALID` when not all credentials open with the keys that are here, and `INVALID_REQUEST` when another rotation runs: nothing has
 * changed then. `CATALOG_UNAVAILABLE`: run it again.
 */
export async function rotateCredentialsKey(options: RotationOptions): Promise<Rotation> {
  return alone(options.catalog, () => rotate(options))
}

async function rotate({ catalog, keysFolder, hostId, copied, afterStep = () => {} }: RotationOptions): Promise<Rotation> {
  const rows = await listCredentials(catalog)
  const { damaged } = await checkCredentialsKeys(keysFolder, rows)
  if (damaged.length > 0) throw await refuseDamaged(catalog, damaged)
  const [path, nextPath] = [credentialsKeyPath(keysFolder), nextKeyPath(keysFolder)]
  const current = await readCredentialsKey(path)
  if (!current) return { kind: 'nothing-sealed' }

  const next = await makeCredentialsKey(nextPath, await stat(path))
  await afterStep('next-made')
  const users = await listCredentialsUsers(catalog)
  const hosts = [...new Set(users.map((user) => user.hostId))].filter((host) => host !== hostId).toSorted()
  if (hosts.length > 0 && !copied) return { kind: 'prepared', nextPath, hosts }

  await resealAll(catalog, keysFolder, next)
  await afterStep('resealed')
  // The same when an earlier run got so far.
  if (current.id !== next.id) await replaceKey(keysFolder, current, afterStep)
  // What was sealed under the old key since the first time. From now on nobody takes that key any more.
  const credentials = await resealAll(catalog, keysFolder, next)
  await afterStep('resealed-again')
  await unlink(nextPath)
  await syncFolder(keysFolder)
  await afterStep('next-removed')
  const oldPaths = (await readCredentialsKeys(keysFolder)).filter((key) => key.id !== next.id).map((key) => key.path)
  return { kind: 'rotated', path, keyId: next.id, oldPaths, credentials, hosts }
}

/** The next key stays under its own name too, so that a run after this one sees what was under way. */
async function replaceKey(keysFolder: string, current: CredentialsKey, afterStep: Notice): Promise<void> {
  const nextPath = nextKeyPath(keysFolder)
  await linkOnce(current.path, oldKeyPath(keysFolder, current.id))
  await syncFolder(keysFolder)
  await afterStep('old-kept')
  const draft = draftOf(current.path)
  await link(nextPath, draft)
  await rename(draft, current.path)
  await syncFolder(keysFolder)
  await afterStep('replaced')
}

/** Returns how many there are. Repeated when it meets another transaction on the same rows. */
async function resealAll(catalog: Catalog, keysFolder: string, next: CredentialsKey, attemptsLeft = 5): Promise<number> {
  try {
    return await catalog.transaction().execute(async (transaction) => {
      const rows = await lockCredentials(transaction)
      const keys = await readCredentialsKeys(keysFolder)
      for (const { id, sealed } of rows) {
        if (sealingKeyId(sealed) === next.id) continue
        await resealCredentials(transaction, { id, sealed: seal(next, id, unsealWithAny(keys, id, sealed)) })
      }
      return rows.length
    })
  } catch (error) {
    if (!(error instanceof HoldfastError && error.retryable) || attemptsLeft <= 1) throw error
    return resealAll(catalog, keysFolder, next, attemptsLeft - 1)
  }
}

/** The server takes the lock away with the connection, however this process ends. */
async function alone<T>(catalog: Catalog, work: () => Promise<T>): Promise<T> {
  return catalog.connection().execute(async (connection) => {
    const name = sql<string>`concat('holdfast-credentials-key-', md5(database()))`
    const { rows } = await sql<{ taken: number | null }>`select get_lock(${name}, 0) as taken`.execute(connection)
    if (rows[0]?.taken !== 1)
      throw new HoldfastError('INVALID_REQUEST', 'Another rotation of the credentials key is under way: wait for its end.')
    try {
      return await work()
    } finally {
      await sql`do release_lock(${name})`.execute(connection)
    }
  })
}

async function refuseDamaged(catalog: Catalog, damaged: readonly string[]): Promise<HoldfastError> {
  const users = (await listCredentialsUsers(catalog)).filter((user) => damaged.includes(user.credentialsId))
  const whose = users.length === 0 ? 'nothing that is registered' : users.map(({ kind, name }) => `${kind} "${name}"`).join(', ')
  return new HoldfastError(
    'CREDENTIALS_KEY_INVALID',
    `${damaged.length} of the stored credentials were changed since they were sealed and open with no key; they belong to ${whose}. ` +
      `Give these again (PATCH), or run "${FORGET_COMMAND}"; then rotate. Nothing was changed.`,
    { details: { credentials: [...damaged] } },
  )
}

async function linkOnce(existing: string, path: string): Promise<void> {
  try {
    await link(existing, path)
  } catch (error) {
    // Kept by a run that was interrupted; its name is made of its content.
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}
