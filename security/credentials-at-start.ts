/** What a process that seals or opens credentials asks of the keys when it starts. */
import type { SealedCredentials } from '../db/queries/credentials.ts'
import { checkCredentialsKeys } from './credentials-key-check.ts'
import { credentialsKeyPath, makeCredentialsKey, nextKeyPath } from './credentials-keys.ts'

/** For the one that seals; makes the key of a catalog that has no credentials. Returns what people should know. `CREDENTIALS_KEY_INVALID` */
export async function prepareCredentialsKey(keysFolder: string, rows: readonly SealedCredentials[]): Promise<string[]> {
  const warnings = await credentialsWarnings(keysFolder, rows)
  if (rows.length === 0) await makeCredentialsKey(credentialsKeyPath(keysFolder))
  return warnings
}

/** For one that only opens; makes nothing. Returns what people should know. `CREDENTIALS_KEY_INVALID` */
export async function credentialsWarnings(keysFolder: string, rows: readonly SealedCredentials[]): Promise<string[]> {
  const { keys, damaged } = await checkCredentialsKeys(keysFolder, rows)
  const warnings = damaged.map((id) => `The stored credentials ${id} were changed since they were sealed: give them again.`)
  if (keys.some((key) => key.path === nextKeyPath(keysFolder)))
    warnings.push(`A rotation of the credentials key has not ended: run "npm run rotate-credentials-key" again.`)
  return warnings
}
