/** The place that a request names, with what is secret about it taken out before anything else sees it. */
import type { BackupRepository } from '../db/queries/repositories.ts'
import type { RepositoryType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { checkPlace, sharePasswordIssue } from '../domain/repository-place.ts'
import { sealCredentials } from '../security/sealed-credentials.ts'
import type { ApiDependencies } from './dependencies.ts'

type GivenConfig = Readonly<Record<string, unknown>>

export interface RequestedPlace {
  config: JsonObject
  /** `null`: none. */
  password: string | null
}

export interface ChangedPlace {
  config: JsonObject
  /** `null`: none any more. `undefined`: the one that is stored stays. */
  password: string | null | undefined
}

/** `INVALID_REQUEST` naming fields, never their values; `REPO_TYPE_UNSUPPORTED`. */
export function requestedPlace(type: RepositoryType, given: GivenConfig): RequestedPlace {
  const { config, password = null } = split(type, given)
  const checked = checkedConfig(type, config)
  if (takesPassword(type)) requirePassword(checked, password !== null)
  return { config: checked, password }
}

/** What is not given stays. `undefined` when nothing would change. `INVALID_REQUEST` */
export function changedPlace(row: BackupRepository, given: GivenConfig): ChangedPlace | undefined {
  const { repository_type: type, config: before } = row
  const { config, password } = split(type, given)
  const after = checkedConfig(type, { ...before, ...config })
  if (!takesPassword(type)) return isSame(before, after) ? undefined : { config: after, password: undefined }
  if (after['username'] === null) {
    requirePassword(after, typeof password === 'string')
    const hadNone = row.credentials_id === null && password !== null
    return hadNone && isSame(before, after) ? undefined : { config: after, password: null }
  }
  // A stored password belongs to the account that it was given for, at that server.
  const stays = password === undefined && row.credentials_id !== null && isSame(accountOf(before), accountOf(after))
  requirePassword(after, stays || typeof password === 'string')
  if (stays) return isSame(before, after) ? undefined : { config: after, password: undefined }
  return { config: after, password: password ?? null }
}

/** Seals and stores a password and returns the id to refer to it by; `null` without one. */
export async function sealedPassword(
  { catalog, keysFolder }: Pick<ApiDependencies, 'catalog' | 'keysFolder'>,
  password: string | null,
): Promise<string | null> {
  return password === null ? null : sealCredentials(catalog, keysFolder, { password })
}

/** A request without its secrets, for what is kept of it. */
export function withoutPassword<Request extends { config?: GivenConfig | undefined }>(request: Request): Request {
  const { config } = request
  if (config === undefined || !Object.hasOwn(config, 'password')) return request
  return { ...request, config: { ...config, password: config['password'] === null ? 'none' : 'given' } }
}

function takesPassword(type: RepositoryType): boolean {
  return type === 'cifs' || type === 'smb'
}

/** Of other types a password is one more field that does not belong there. */
function split(type: RepositoryType, given: GivenConfig): { config: GivenConfig; password?: string | null } {
  if (!takesPassword(type) || given['password'] === undefined) return { config: given }
  const { password, ...config } = given
  if (password === null) return { config, password }
  const issue = typeof password === 'string' ? sharePasswordIssue(password) : 'must be text'
  if (typeof password === 'string' && issue === null) return { config, password }
  throw passwordRefused(issue ?? 'must be text')
}

function requirePassword({ username }: JsonObject, given: boolean): void {
  if (typeof username === 'string' && !given) throw passwordRefused('is missing: give the one of "username" at this server')
  if (username === null && given) throw passwordRefused('needs a "username"; leave it out to mount as guest')
}

function passwordRefused(issue: string): HoldfastError {
  const message = `The repository's configuration was refused: "config.password": ${issue}.`
  return new HoldfastError('INVALID_REQUEST', message, { details: { issues: [{ path: 'config.password', message: issue }] } })
}

function checkedConfig(type: RepositoryType, config: GivenConfig): JsonObject {
  return { ...checkPlace(type, config).config }
}

function accountOf({ server, domain, username }: JsonObject): JsonObject {
  return { server: server ?? null, domain: domain ?? null, username: username ?? null }
}

function isSame(one: JsonObject, other: JsonObject): boolean {
  const text = (config: JsonObject): string => JSON.stringify(Object.entries(config).toSorted(([a], [b]) => (a < b ? -1 : 1)))
  return text(one) === text(other)
}
