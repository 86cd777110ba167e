/** The members of the family `repositories/`: one line each. */
import type { RepositoryType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { LocalRepository } from './local.ts'
import type { Repository } from './repository.ts'

/** A repository as the catalog knows it. */
export interface RepositoryRecord {
  id: string
  type: RepositoryType
  config: JsonObject
}

type CreateMember = (id: string, config: JsonObject) => Repository

const members: Partial<Record<RepositoryType, CreateMember>> = {
  local: (id, config) => new LocalRepository(id, pathOf(config)),
}

/** The repository for a record of the catalog. Touches nothing. `REPO_INVALID` for a type or a configuration we cannot use. */
export function createRepository(record: RepositoryRecord): Repository {
  const create = members[record.type]
  if (!create) {
    const known = Object.keys(members).join(', ')
    throw new HoldfastError('REPO_INVALID', `Repositories of type "${record.type}" are not supported yet. Use one of: ${known}.`)
  }
  return create(record.id, record.config)
}

function pathOf(config: JsonObject): string {
  const path = config['path']
  if (typeof path === 'string' && path !== '') return path
  throw new HoldfastError('REPO_INVALID', 'A local repository needs a "path": the absolute path of its folder.')
}
