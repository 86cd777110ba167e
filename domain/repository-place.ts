/** What the configuration of each type of repository may say. It is stored in clear and shown to every user: nothing secret is part of it. */
import type { RepositoryType } from './backup.ts'
import { ConfigFields } from './config-fields.ts'
import type { Normal } from './config-fields.ts'
import { HoldfastError } from './errors.ts'
import type { JsonObject } from './errors.ts'
import { normalServerAddress } from './server-address.ts'

export interface LocalPlace {
  /** Absolute path of a folder of the repository's host. */
  path: string
}

export interface NfsPlace {
  /** Host name, IPv4 address, or IPv6 address without brackets. */
  server: string
  /** Absolute path, as the server exports it. */
  export_path: string
  /** Each of the allow-list; they stand behind our own and may not weaken them. */
  mount_options: string[]
}

export interface CifsPlace {
  server: string
  share_name: string
  domain: string | null
  /** `null`: as guest. The password that belongs to it is sealed apart. */
  username: string | null
  mount_options: string[]
}

/** What is sealed for a `cifs` or `smb` repository. */
export interface ShareCredentials {
  password: string
}

/** Types whose place is a share that Holdfast mounts by itself. */
export const shareTypes = ['nfs', 'cifs', 'smb'] as const satisfies readonly RepositoryType[]
export type ShareType = (typeof shareTypes)[number]

export function isShareType(type: RepositoryType): type is ShareType {
  return (shareTypes as readonly string[]).includes(type)
}

/** A repository as the catalog knows it. */
export interface RepositoryRecord {
  id: string
  type: RepositoryType
  config: JsonObject
  /** What opens the share, referred to: it travels through histories. `null`: nothing is needed. */
  credentialsId: string | null
}

type Checked<Type extends RepositoryType, Config> = { type: Type; config: Config }

/** A checked configuration, in its one spelling. `smb` is another word for `cifs`. */
export type RepositoryPlace = Checked<'local', LocalPlace> | Checked<'nfs', NfsPlace> | Checked<'cifs', CifsPlace>

type Unchecked = Readonly<Record<string, unknown>>

/** `INVALID_REQUEST`, as requests that do not fit their schema: `details.issues` names the fields, never a value. `REPO_TYPE_UNSUPPORTED`. */
export function checkPlace(type: 'local', config: Unchecked): Checked<'local', LocalPlace>
export function checkPlace(type: 'nfs', config: Unchecked): Checked<'nfs', NfsPlace>
export function checkPlace(type: 'cifs' | 'smb', config: Unchecked): Checked<'cifs', CifsPlace>
export function checkPlace(type: RepositoryType, config: Unchecked): RepositoryPlace
export function checkPlace(type: RepositoryType, config: Unchecked): RepositoryPlace {
  const fields = new ConfigFields(config)
  const place = readPlace(type, fields)
  fields.finish()
  return place
}

/** Tells places apart: two configurations of one key are one folder or share, however they are spelled. Local folders belong to a host, which is not in it. */
export function placeKey(type: RepositoryType, config: Unchecked): string {
  const place = checkPlace(type, config)
  if (place.type === 'local') return `local:${place.config.path}`
  if (place.type === 'nfs') return `nfs:${place.config.server}:${place.config.export_path}`
  // Servers of this protocol do not tell upper and lower case apart.
  return `cifs:${place.config.server}:${place.config.share_name.toLowerCase().normalize('NFC')}`
}

/** What `mount.cifs` takes no more of. */
const PASSWORD_MAX_BYTES = 511

/** Why a password cannot be handed to `mount.cifs`, for people; `null` when it can. */
export function sharePasswordIssue(password: string): string | null {
  if (password === '') return 'must not be empty; leave it and "username" out to mount as guest'
  // A line break or NUL would end it early, silently.
  if (/[\p{Cc}\p{Cs}]/u.test(password)) return 'must not hold control characters'
  return new TextEncoder().encode(password).length > PASSWORD_MAX_BYTES ? `is longer than ${PASSWORD_MAX_BYTES} bytes` : null
}

/** One line per type, and what it reads below. */
const readers: Partial<Record<RepositoryType, (fields: ConfigFields) => RepositoryPlace>> = {
  local: readLocal,
  nfs: readNfs,
  cifs: readCifs,
  smb: readCifs,
}

function readPlace(type: RepositoryType, fields: ConfigFields): RepositoryPlace {
  const read = readers[type]
  if (read) return read(fields)
  const supported = Object.keys(readers)
  const message = `Repositories of type "${type}" are not offered. Use one of: ${supported.join(', ')}.`
  throw new HoldfastError('REPO_TYPE_UNSUPPORTED', message, { details: { type, supported } })
}

function readLocal(fields: ConfigFields): RepositoryPlace {
  return { type: 'local', config: { path: fields.text('path', normalPath, FOLDER_ADVICE) } }
}

function readNfs(fields: ConfigFields): RepositoryPlace {
  const server = fields.text('server', normalServerAddress, SERVER_ADVICE)
  const export_path = fields.text('export_path', normalExport, EXPORT_ADVICE)
  return { type: 'nfs', config: { server, export_path, mount_options: fields.mountOptions('nfs') } }
}

function readCifs(fields: ConfigFields): RepositoryPlace {
  const server = fields.text('server', normalServerAddress, SERVER_ADVICE)
  const share_name = fields.text('share_name', matching(SHARE_NAME), SHARE_ADVICE)
  const domain = fields.optionalText('domain', matching(DOMAIN), DOMAIN_ADVICE)
  const username = fields.optionalText('username', matching(USERNAME), USERNAME_ADVICE)
  return { type: 'cifs', config: { server, share_name, domain, username, mount_options: fields.mountOptions('cifs') } }
}

const FOLDER_ADVICE = 'give an absolute path without "..", ".", "//", control characters or a slash at the end'
const SERVER_ADVICE = 'give a host name, an IPv4 address, or an IPv6 address without brackets'
const EXPORT_ADVICE =
  'give the absolute path that the server exports, of letters, digits and "_ . - + @ ~ : $", without ".." and "//"'
const SHARE_ADVICE = 'give the name of the share alone: letters, digits, "_ . - $" and spaces within, 80 at most'
const DOMAIN_ADVICE = 'give the name of the domain: letters, digits, "_", "." and "-"'
const USERNAME_ADVICE =
  'give the name of the account alone: letters, digits, "_ . - $ @" and spaces within; the domain has a field of its own'

const SHARE_NAME = /^(?!\.{1,2}$)[\p{L}\p{N}_.$](?:[\p{L}\p{N}_.$ -]{0,78}[\p{L}\p{N}_.$-])?$/u
const DOMAIN = /^[a-z0-9_](?:[a-z0-9_.-]{0,253}[a-z0-9_])?$/i
const USERNAME = /^[\p{L}\p{N}_$](?:[\p{L}\p{N}_.$@ -]{0,102}[\p{L}\p{N}_.$-])?$/u

const PATH_MAX = 700

function matching(shape: RegExp): Normal {
  return (text) => (shape.test(text) ? text : null)
}

function normalPath(path: string): string | null {
  if (path.length > PATH_MAX || !path.startsWith('/') || /[\p{Cc}\p{Cs}]/u.test(path)) return null
  const isNormal = path
    .slice(1)
    .split('/')
    .every((part) => part !== '' && part !== '.' && part !== '..')
  return isNormal ? path : null
}

/** A slash at the end is forgiven, because exports are often written so. */
function normalExport(path: string): string | null {
  if (path === '/') return path
  const normal = normalPath(path.replace(/(?<=.)\/$/, ''))
  return normal !== null && /^[\p{L}\p{N}_.+@~:$/-]+$/u.test(normal) ? normal : null
}
