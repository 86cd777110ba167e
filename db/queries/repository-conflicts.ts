/** Which other repository stands in the way of one: by its name, or by its place. */
import type { RepositoryType } from '../../domain/backup.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import { overlapOf } from '../../domain/repository-overlap.ts'
import type { Catalog } from '../client.ts'

export interface WantedRepository {
  repositoryId: string
  name: string
  type: RepositoryType
  hostId: string
  config: JsonObject
}

interface Other {
  id: string
  name: string
  repository_type: RepositoryType
  host_id: string
  config: JsonObject
}

/** What of a repository is new: what it has already stands in nobody's way. */
export interface NewParts {
  name: boolean
  place: boolean
}

/** `REPO_EXISTS` when the name or the place is another's, whatever its spelling; `REPO_INVALID` when the two places lie in each other. */
export async function checkRepositoryIsNew(
  catalog: Catalog,
  wanted: WantedRepository,
  { name: isNamed, place: isPlaced }: NewParts = { name: true, place: true },
): Promise<void> {
  // There are few: an administrator made each by hand.
  const others = await catalog
    .selectFrom('backup_repositories')
    .select(['id', 'name', 'repository_type', 'host_id', 'config'])
    .where('id', '<>', wanted.repositoryId)
    .execute()
  for (const other of others) {
    if (isNamed && nameKey(other.name) === nameKey(wanted.name)) throw nameTaken(other)
    const overlap = isPlaced ? overlapWith(wanted, other) : null
    if (overlap === 'same') throw placeTaken(other)
    if (overlap === 'nested') throw placesNested(other)
  }
}

/** The catalog tells every byte apart; people tell "Primary" from "primary" no better than "ü" from "u" with two dots. */
function nameKey(name: string): string {
  return name.normalize('NFC').toLowerCase()
}

function overlapWith(wanted: WantedRepository, other: Other): 'same' | 'nested' | null {
  try {
    return overlapOf(wanted, { type: other.repository_type, hostId: other.host_id, config: other.config })
  } catch (error) {
    // An old row that today's rules refuse; the marker still tells whose folder it is. What is wrong with the wanted one is said elsewhere.
    if (error instanceof HoldfastError) return null
    throw error
  }
}

export function nameTaken({ id }: { id: string | null }): HoldfastError {
  return new HoldfastError('REPO_EXISTS', 'A repository of this name is registered: choose another name.', {
    details: { repository_id: id, taken: 'name' },
  })
}

function placeTaken({ id, name }: Other): HoldfastError {
  return new HoldfastError(
    'REPO_EXISTS',
    `This place is registered as repository "${name}": use that one, or choose another place.`,
    {
      details: { repository_id: id, taken: 'place' },
    },
  )
}

function placesNested({ id, name }: Other): HoldfastError {
  return new HoldfastError(
    'REPO_INVALID',
    `This folder and that of repository "${name}" lie in each other: choose another folder.`,
    { details: { repository_id: id } },
  )
}
