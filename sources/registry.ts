/** The members of the family `sources/`: one line each. */
import type { SourceType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import { DiskImageSource } from './disk-image/source.ts'
import type { DiskImageOptions } from './disk-image/source.ts'
import type { Source } from './source.ts'

/** What the administrator settled for all VMs of a type. */
export type SourceOptions = DiskImageOptions

const members: Partial<Record<SourceType, (options: SourceOptions) => Source>> = {
  'disk-image': (options) => new DiskImageSource(options),
}

/** The source for VMs of `type`. Touches nothing. `SOURCE_INVALID` for a type that we do not have. */
export function createSource(type: SourceType, options: SourceOptions = {}): Source {
  const create = members[type]
  if (create) return create(options)
  const known = Object.keys(members).join(', ')
  throw new HoldfastError('SOURCE_INVALID', `VMs of type "${type}" are not supported yet. Use one of: ${known}.`)
}
