/** The members of the family `repositories/`: one line each. All have one layout; they differ in what must be mounted before it is seen. */
import type { RepositoryType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { checkPlace } from '../domain/repository-place.ts'
import type { RepositoryRecord } from '../domain/repository-place.ts'
import { cifsShare } from './cifs.ts'
import { LocalRepository } from './local.ts'
import { nfsShare } from './nfs.ts'
import type { Repository } from './repository.ts'
import type { SealedShare } from './share-mounts.ts'

/** Where the files of a repository are: in a folder of this host, or on a share that has to be mounted first. */
export type Place = { kind: 'folder'; path: string } | { kind: 'share'; share: SealedShare }

type Member = (config: JsonObject, credentialsId: string | null) => Place

const members: Partial<Record<RepositoryType, Member>> = {
  local: (config) => ({ kind: 'folder', path: checkPlace('local', config).config.path }),
  nfs: (config) => ({ kind: 'share', share: nfsShare(checkPlace('nfs', config).config) }),
  cifs: cifsPlace,
  smb: cifsPlace,
}

function cifsPlace(config: JsonObject, credentialsId: string | null): Place {
  return { kind: 'share', share: cifsShare(checkPlace('cifs', config).config, credentialsId) }
}

/** The place of a record of the catalog. Touches nothing. `REPO_INVALID` for a type or a configuration we cannot use. */
export function placeOf({ type, config, credentialsId }: RepositoryRecord): Place {
  const member = members[type]
  if (!member) {
    const known = Object.keys(members).join(', ')
    throw new HoldfastError('REPO_INVALID', `Repositories of type "${type}" are not supported yet. Use one of: ${known}.`)
  }
  try {
    return member(config, credentialsId)
  } catch (error) {
    // Here it is no request that is wrong, but what the catalog holds.
    if (!(error instanceof HoldfastError) || error.code !== 'INVALID_REQUEST') throw error
    throw new HoldfastError('REPO_INVALID', error.message, { details: error.details })
  }
}

/** The repository whose files are seen at `root`. Touches nothing. `REPO_INVALID` for a folder that belongs to the system. */
export function repositoryAt(root: string, { id, type }: Pick<RepositoryRecord, 'id' | 'type'>): Repository {
  return new LocalRepository(id, root, type)
}

/** A repository in a folder of this host. `REPO_INVALID`, for one on a share too: that has to be mounted first. */
export function createRepository(record: RepositoryRecord): Repository {
  const place = placeOf(record)
  if (place.kind === 'folder') return repositoryAt(place.path, record)
  throw new HoldfastError('REPO_INVALID', `Repository "${record.id}" is on a share, which this step cannot mount.`)
}
