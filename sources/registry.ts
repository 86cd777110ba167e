/** The members of the family `sources/`: one line each. */
import type { SourceType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { DiskImageSource } from './disk-image/source.ts'
import { LibvirtSource } from './libvirt/source.ts'
import type { Source } from './source.ts'

export interface SourceOptions {
  /** Sockets and key files of this process go below it. */
  runFolder: string
  /** `null` for types that need no connection. */
  connection: SourceConnection | null
}

/** How to reach a platform. The credentials are open: this object is never logged, stored or sent. */
export interface SourceConnection {
  id: string
  config: JsonObject
  credentials: JsonObject | null
}

const members: Partial<Record<SourceType, (options: SourceOptions) => Source>> = {
  'disk-image': () => new DiskImageSource(),
  libvirt: (options) => new LibvirtSource(options.runFolder, connectionOf(options)),
}

/** The source for VMs of `type`. Touches nothing. `SOURCE_INVALID` for a type that we do not have, or one that lacks its connection. */
export function createSource(type: SourceType, options: SourceOptions): Source {
  const create = members[type]
  if (create) return create(options)
  const known = Object.keys(members).join(', ')
  throw new HoldfastError('SOURCE_INVALID', `VMs of type "${type}" are not supported yet. Use one of: ${known}.`)
}

function connectionOf({ connection }: SourceOptions): SourceConnection {
  if (connection) return connection
  throw new HoldfastError('SOURCE_INVALID', 'This VM has no source connection: add one, then discover its VMs.')
}
