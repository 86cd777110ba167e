/** Repositories: list, register, one, test. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { ulid } from 'ulid'
import {
  countRepositories,
  findRepository,
  findRepositoryByName,
  listRepositories,
  localRepositoriesOf,
  setRepositoryEnabled,
} from '../../db/queries/repositories.ts'
import type { BackupRepository } from '../../db/queries/repositories.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { recordedStorageAnswer, repositoryAnswer, storageAnswer } from '../answers/repositories.ts'
import { cursorByName, readNameCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { liesIn } from '../host-paths.ts'
import { permit } from '../middleware/authorize.ts'
import type { StartOnce } from '../middleware/idempotency.ts'
import { checkRepositoryConfig } from '../repository-config.ts'
import {
  registerRepositoryAnswer,
  registerRepositoryRequest,
  repositoryAnswer as oneAnswer,
  repositoryListAnswer,
  repositoryListQuery,
  repositoryParameter,
  testRepositoryAnswer,
  testRepositoryRequest,
} from '../schemas/repositories.ts'
import { answers, createApi, idempotencyHeader, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const tags = ['repositories']

const listRoute = createRoute({
  method: 'get',
  path: '/repositories',
  tags,
  summary: 'The repositories, by name',
  middleware: permit('repository.view'),
  request: { query: repositoryListQuery },
  responses: answers(200, 'One page', repositoryListAnswer),
})

const registerRoute = createRoute({
  method: 'post',
  path: '/repositories',
  tags,
  summary: 'Register a repository',
  description: 'The mover of the host prepares the place before the repository is recorded.',
  middleware: permit('repository.register'),
  request: { headers: idempotencyHeader, body: jsonBody(registerRepositoryRequest) },
  responses: answers(201, 'Registered', registerRepositoryAnswer),
})

const testPlaceRoute = createRoute({
  method: 'post',
  path: '/repositories/test',
  tags,
  summary: 'Look at a place that is not registered',
  middleware: permit('repository.test'),
  request: { body: jsonBody(testRepositoryRequest) },
  responses: answers(200, 'The place can be used', testRepositoryAnswer),
})

const oneRoute = createRoute({
  method: 'get',
  path: '/repositories/{id}',
  tags,
  summary: 'One repository',
  middleware: permit('repository.view'),
  request: { params: repositoryParameter },
  responses: answers(200, 'The repository', oneAnswer),
})

const testRoute = createRoute({
  method: 'post',
  path: '/repositories/{id}/test',
  tags,
  summary: 'Look at a registered repository',
  middleware: permit('repository.test'),
  request: { params: repositoryParameter },
  responses: answers(200, 'The repository can be used', testRepositoryAnswer),
})

export function repositories(dependencies: ApiDependencies, startOnce: StartOnce): Api {
  const { operations, hostId } = dependencies
  return createApi()
    .openapi(listRoute, async (c) => c.json(await list(dependencies, c.req.valid('query')), 200))
    .openapi(registerRoute, async (c) => {
      const request = c.req.valid('json')
      const answer = await startOnce(c, {
        request: { verb: 'register repository', body: request },
        statusCode: 201,
        shape: registerRepositoryAnswer,
        newId: newRepositoryId,
        recall: (id) => registered(dependencies, id),
        start: (id) => register(dependencies, id, request),
      })
      return c.json(answer, 201)
    })
    .openapi(testPlaceRoute, async (c) => {
      const request = c.req.valid('json')
      const config = checkRepositoryConfig(request)
      const repositoryId = newRepositoryId()
      const storage = await operations.testRepository({
        repositoryId,
        name: repositoryId,
        type: request.type,
        hostId: request.host_id ?? hostId,
        config,
      })
      return c.json(tested(storage), 200)
    })
    .openapi(oneRoute, async (c) => {
      const row = await repositoryOf(dependencies, c.req.valid('param').id)
      return c.json({ success: true as const, repository: repositoryAnswer(row) }, 200)
    })
    .openapi(testRoute, async (c) => {
      const row = await repositoryOf(dependencies, c.req.valid('param').id)
      const { id: repositoryId, name, repository_type: type, host_id, config } = row
      return c.json(tested(await operations.testRepository({ repositoryId, name, type, hostId: host_id, config })), 200)
    })
}

function newRepositoryId(): string {
  return `repo-${ulid().toLowerCase()}`
}

/** `REPO_NOT_FOUND`. */
export async function repositoryOf({ catalog }: Pick<ApiDependencies, 'catalog'>, id: string): Promise<BackupRepository> {
  const row = await findRepository(catalog, id)
  if (row) return row
  throw new HoldfastError('REPO_NOT_FOUND', 'There is no such repository: GET /repositories lists them.', {
    details: { repository_id: id },
  })
}

async function list(
  { catalog }: ApiDependencies,
  query: z.output<typeof repositoryListQuery>,
): Promise<z.infer<typeof repositoryListAnswer>> {
  const { limit } = query
  const filter = { enabled: query.enabled }
  const [found, total] = await Promise.all([
    listRepositories(catalog, filter, { limit: limit + 1, after: readNameCursor(query.cursor) }),
    countRepositories(catalog, filter),
  ])
  const page = found.slice(0, limit)
  const last = found.length > limit ? page.at(-1) : undefined
  return {
    success: true,
    repositories: page.map(repositoryAnswer),
    count: page.length,
    total_count: total,
    next_cursor: last ? cursorByName(last) : null,
  }
}

type RegisterAnswer = z.infer<typeof registerRepositoryAnswer>

async function register(
  { catalog, operations, hostId }: ApiDependencies,
  id: string,
  request: z.output<typeof registerRepositoryRequest>,
): Promise<RegisterAnswer> {
  const config = checkRepositoryConfig(request)
  const host = request.host_id ?? hostId
  const namesake = await findRepositoryByName(catalog, request.name)
  if (namesake) {
    throw new HoldfastError('REPO_EXISTS', 'A repository of this name is registered: choose another name.', {
      details: { repository_id: namesake.id },
    })
  }
  refuseOverlap(config.path, await localRepositoriesOf(catalog, host))
  const storage = await operations.registerRepository({
    repositoryId: id,
    name: request.name,
    type: request.type,
    hostId: host,
    config,
  })
  if (!request.enabled) await setRepositoryEnabled(catalog, id, false)
  return { success: true, repository_id: id, message: 'Repository registered successfully', storage: storageAnswer(storage) }
}

/** Two repositories on one folder, or one inside the other, would delete and list each other's files. */
function refuseOverlap(path: string, others: readonly BackupRepository[]): void {
  for (const other of others) {
    const { path: root } = other.config
    if (typeof root !== 'string') continue
    if (root === path) {
      throw new HoldfastError('REPO_EXISTS', `This folder is registered as repository "${other.name}".`, {
        details: { repository_id: other.id },
      })
    }
    if (liesIn(path, root) || liesIn(root, path)) {
      throw new HoldfastError(
        'REPO_INVALID',
        `This folder and that of repository "${other.name}" lie in each other: choose another folder.`,
        {
          details: { repository_id: other.id },
        },
      )
    }
  }
}

async function registered({ catalog }: ApiDependencies, id: string): Promise<RegisterAnswer | undefined> {
  const row = await findRepository(catalog, id)
  if (!row) return undefined
  return { success: true, repository_id: id, message: 'Repository registered successfully', storage: recordedStorageAnswer(row) }
}

function tested(storage: Parameters<typeof storageAnswer>[0]): z.infer<typeof testRepositoryAnswer> {
  const message = storage.writable ? 'Repository connection successful' : 'The repository can be reached, but not written to'
  return { success: true, message, storage: storageAnswer(storage) }
}
