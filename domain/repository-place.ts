/** What the configuration of each type of repository may say. It is stored in clear and shown to every user: nothing secret is part of it. */
import type { RepositoryType } from './backup.ts'
import type { JsonObject } from './errors.ts'

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
