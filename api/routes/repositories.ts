/** Repositories: list, register, one, test. What changes them is in `repository-changes.ts`. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { ulid } from 'ulid'
import { countRepositories, findRepository, listRepositories, requireRepository } from '../../db/queries/repositories.ts'
import type { BackupRepository } from '../../db/queries/repositories.ts'
import { checkRepositoryIsNew } from '../../db/queries/repository-conflicts.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { RepositoryFindings } from '../../temporal/operations.ts'
import { immutabilityAnswer, recordedStorage, repositoryAnswer, storageAnswer } from '../answers/repositories.ts'
import { auditOfRepository } from '../audit.ts'
import type { AuditTrail } from '../audit.ts'
import { cursorByName, readNameCursor } from '../cursor.ts'
import { staleBefore } from '../dependencies.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import type { StartOnce } from '../middleware/idempotency.ts'
import { requestedPlace, sealedPassword, withoutPassword } from '../repository-place.ts'
import { requestedSettings } from '../repository-settings.ts'
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
  description:
    'Tested before it is recorded: mounted, written to, read back, and, where it is to be immutable, tried whether it is. What is refused leaves nothing behind.',
  middleware: permit('repository.manage'),
  request: { headers: idempotencyHeader, body: jsonBody(registerRepositoryRequest) },
  responses: answers(201, 'Registered', registerRepositoryAnswer),
})

const testPlaceRoute = createRoute({
  method: 'post',
  path: '/repositories/test',
  tags,
  summary: 'Test a place that is not registered',
  description: 'Mounts it, writes, reads back, measures, removes and unmounts. Leaves nothing behind, however it ends.',
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
  summary: 'Test a registered repository',
  middleware: permit('repository.test'),
  request: { params: repositoryParameter },
  responses: answers(200, 'The repository can be used', testRepositoryAnswer),
})

export function repositories(dependencies: ApiDependencies, startOnce: StartOnce, trail: AuditTrail): Api {
  const { catalog, operations, hostId } = dependencies
  return createApi()
    .openapi(listRoute, async (c) => c.json(await list(dependencies, c.req.valid('query')), 200))
    .openapi(registerRoute, async (c) => {
      const request = c.req.valid('json')
      const answer = await startOnce(c, {
        request: { verb: 'register repository', body: withoutPassword(request) },
        statusCode: 201,
        shape: registerRepositoryAnswer,
        newId: newRepositoryId,
        recall: (id) => registered(dependencies, id),
        start: (id) =>
          register(dependencies, id, request, (details) => trail.note(c, auditOfRepository('repository.register', id, details))),
      })
      return c.json(answer, 201)
    })
    .openapi(testPlaceRoute, async (c) => {
      const request = c.req.valid('json')
      const { type, host_id = hostId, is_immutable: tryImmutability } = request
      const { config, password } = requestedPlace(type, request.config)
      const id = newRepositoryId()
      await trail.note(c, auditOfRepository('repository.test', id, { type, host_id, config }))
      const credentialsId = await sealedPassword(dependencies, password)
      const place = { repositoryId: id, name: id, type, hostId: host_id, config, credentialsId }
      return c.json(tested(await operations.testRepository({ ...place, tryImmutability })), 200)
    })
    .openapi(oneRoute, async (c) => {
      const row = await requireRepository(catalog, c.req.valid('param').id)
      return c.json({ success: true as const, repository: repositoryAnswer(row, staleBefore(dependencies)) }, 200)
    })
    .openapi(testRoute, async (c) => {
      const row = await requireRepository(catalog, c.req.valid('param').id)
      await trail.note(c, auditOfRepository('repository.test', row.id, { name: row.name }))
      const { id: repositoryId, name, repository_type: type, host_id, config, credentials_id: credentialsId } = row
      const repository = { repositoryId, name, type, hostId: host_id, config, credentialsId }
      return c.json(tested(await operations.testRepository({ ...repository, tryImmutability: row.is_immutable })), 200)
    })
}

function newRepositoryId(): string {
  return `repo-${ulid().toLowerCase()}`
}

async function list(
  dependencies: ApiDependencies,
  query: z.output<typeof repositoryListQuery>,
): Promise<z.infer<typeof repositoryListAnswer>> {
  const { limit, type, health, enabled, host_id: hostId } = query
  const { catalog } = dependencies
  const since = staleBefore(dependencies)
  const filter = { type, health: health && { state: health, staleBefore: since }, enabled, hostId }
  const [found, total] = await Promise.all([
    listRepositories(catalog, filter, { limit: limit + 1, after: readNameCursor(query.cursor) }),
    countRepositories(catalog, filter),
  ])
  const page = found.slice(0, limit)
  const last = found.length > limit ? page.at(-1) : undefined
  return {
    success: true,
    repositories: page.map((row) => repositoryAnswer(row, since)),
    count: page.length,
    total_count: total,
    next_cursor: last ? cursorByName(last) : null,
  }
}

type RegisterAnswer = z.infer<typeof registerRepositoryAnswer>

async function register(
  dependencies: ApiDependencies,
  repositoryId: string,
  request: z.output<typeof registerRepositoryRequest>,
  note: (details: JsonObject) => Promise<void>,
): Promise<RegisterAnswer> {
  const { catalog, operations, hostId } = dependencies
  const { name, type, host_id = hostId } = request
  const { config, password } = requestedPlace(type, request.config)
  const settings = requestedSettings(request)
  const repository = { repositoryId, name, type, hostId: host_id, config }
  await checkRepositoryIsNew(catalog, repository)
  await note({ name, type, host_id, config })
  // Sealed last, right before something is started that takes care of them.
  const credentialsId = await sealedPassword(dependencies, password)
  return registeredAnswer(repositoryId, await operations.registerRepository({ ...repository, credentialsId, settings }))
}

async function registered({ catalog }: ApiDependencies, id: string): Promise<RegisterAnswer | undefined> {
  const row = await findRepository(catalog, id)
  return row && registeredAnswer(id, { storage: recordedStorage(row), enforcement: recordedEnforcement(row) })
}

function recordedEnforcement({
  enforced_by: enforcedBy,
  enforcement_reason: reason,
}: BackupRepository): RepositoryFindings['enforcement'] {
  return enforcedBy === null ? null : { enforcedBy, reason }
}

function registeredAnswer(id: string, { storage, enforcement }: RepositoryFindings): RegisterAnswer {
  return {
    success: true,
    repository_id: id,
    message: 'Repository registered successfully',
    storage: storageAnswer(storage),
    immutability: immutabilityAnswer(enforcement),
  }
}

function tested({ storage, enforcement }: RepositoryFindings): z.infer<typeof testRepositoryAnswer> {
  const message = storage.writable ? 'Repository connection successful' : 'The repository can be reached, but not written to'
  return { success: true, message, storage: storageAnswer(storage), immutability: immutabilityAnswer(enforcement) }
}
