/** What changes a repository: its settings and place, its mount, its end. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { requireRepository } from '../../db/queries/repositories.ts'
import type { BackupRepository } from '../../db/queries/repositories.ts'
import { checkRepositoryIsNew } from '../../db/queries/repository-conflicts.ts'
import { updateRepository } from '../../db/queries/repository-records.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import { isShareType } from '../../domain/repository-place.ts'
import { discardCredentials } from '../../security/sealed-credentials.ts'
import type { ChangeRepositoryRequest, RepositoryOfHost } from '../../temporal/operations.ts'
import { mountAnswer, repositoryAnswer } from '../answers/repositories.ts'
import { auditOfRepository } from '../audit.ts'
import type { AuditTrail } from '../audit.ts'
import { staleBefore } from '../dependencies.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import { changedPlace, sealedPassword, withoutPassword } from '../repository-place.ts'
import type { ChangedPlace } from '../repository-place.ts'
import { changedSettings } from '../repository-settings.ts'
import {
  changeRepositoryAnswer,
  changeRepositoryRequest,
  deleteRepositoryAnswer,
  forceQuery,
  mountRepositoryAnswer,
  repositoryParameter,
} from '../schemas/repositories.ts'
import { answers, createApi, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const tags = ['repositories']

const changeRoute = createRoute({
  method: 'patch',
  path: '/repositories/{id}',
  tags,
  summary: 'Change a repository',
  description:
    'A new place or password is tested before it replaces the old one, and the place must hold this very repository. What is not given stays.',
  middleware: permit('repository.manage'),
  request: { params: repositoryParameter, body: jsonBody(changeRepositoryRequest) },
  responses: answers(200, 'Changed', changeRepositoryAnswer),
})

const deleteRoute = createRoute({
  method: 'delete',
  path: '/repositories/{id}',
  tags,
  summary: 'Forget a repository without backups',
  description:
    'Unmounts it, forgets its password, and clears its folder so that it can be registered again. `force`: also when its place does not answer; its files stay then.',
  middleware: permit('repository.manage'),
  request: { params: repositoryParameter, query: forceQuery },
  responses: answers(200, 'Forgotten', deleteRepositoryAnswer),
})

const mountRoute = createRoute({
  method: 'post',
  path: '/repositories/{id}/mount',
  tags,
  summary: 'Mount the share of a repository',
  middleware: permit('repository.manage'),
  request: { params: repositoryParameter },
  responses: answers(200, 'Mounted', mountRepositoryAnswer),
})

const unmountRoute = createRoute({
  method: 'post',
  path: '/repositories/{id}/unmount',
  tags,
  summary: 'Unmount the share of a repository; `force`: whoever uses it',
  middleware: permit('repository.manage'),
  request: { params: repositoryParameter, query: forceQuery },
  responses: answers(200, 'Not mounted any more', mountRepositoryAnswer),
})

export function repositoryChanges(dependencies: ApiDependencies, trail: AuditTrail): Api {
  const { catalog, operations } = dependencies
  return createApi()
    .openapi(changeRoute, async (c) => {
      const row = await requireRepository(catalog, c.req.valid('param').id)
      const request = c.req.valid('json')
      const note = () => trail.note(c, auditOfRepository('repository.change', row.id, auditedChange(request)))
      return c.json(await change(dependencies, row, request, note), 200)
    })
    .openapi(deleteRoute, async (c) => {
      const row = await requireRepository(catalog, c.req.valid('param').id)
      const { force } = c.req.valid('query')
      await trail.note(c, auditOfRepository('repository.delete', row.id, { name: row.name, force }))
      const { cleared } = await operations.deleteRepository(placeOf(row), { force }).catch(advisingForce)
      const message = 'Repository deleted successfully'
      return c.json({ success: true as const, repository_id: row.id, message, cleared }, 200)
    })
    .openapi(mountRoute, async (c) => {
      const row = requireShare(await requireRepository(catalog, c.req.valid('param').id))
      await trail.note(c, auditOfRepository('repository.mount', row.id, { name: row.name }))
      const state = await operations.mountRepository(placeOf(row))
      return c.json(mountAnswer(row.id, state, 'Repository mounted'), 200)
    })
    .openapi(unmountRoute, async (c) => {
      const row = requireShare(await requireRepository(catalog, c.req.valid('param').id))
      const { force } = c.req.valid('query')
      await trail.note(c, auditOfRepository('repository.unmount', row.id, { name: row.name, force }))
      const state = await operations.unmountRepository(placeOf(row), { force })
      return c.json(mountAnswer(row.id, state, 'Repository unmounted'), 200)
    })
}

type Change = z.output<typeof changeRepositoryRequest>

async function change(
  dependencies: ApiDependencies,
  row: BackupRepository,
  request: Change,
  note: () => Promise<void>,
): Promise<z.infer<typeof changeRepositoryAnswer>> {
  const { catalog } = dependencies
  const settings = changedSettings(row, request)
  const place = request.config && changedPlace(row, request.config)
  const { id, repository_type: type, host_id: hostId } = row
  const config = place?.config ?? row.config
  const parts = { name: request.name !== undefined, place: place !== undefined }
  await checkRepositoryIsNew(catalog, { repositoryId: id, name: request.name ?? row.name, type, hostId, config }, parts)
  await note()
  const wanted = { ...placeOf(row), ...(request.name !== undefined && { name: request.name }), settings }
  // What must be tried where the repository lies is for its mover.
  if (place || settings.immutability) await changeAtPlace(dependencies, row, wanted, place)
  else await updateRepository(catalog, id, wanted)
  const repository = repositoryAnswer(await requireRepository(catalog, id), staleBefore(dependencies))
  return { success: true, repository_id: id, message: 'Repository updated successfully', repository }
}

async function changeAtPlace(
  dependencies: ApiDependencies,
  row: BackupRepository,
  wanted: ChangeRepositoryRequest,
  place: ChangedPlace | undefined,
): Promise<void> {
  const { catalog, operations } = dependencies
  if (!place) return operations.changeRepository(wanted)
  const { config, password } = place
  const credentialsId = password === undefined ? row.credentials_id : await sealedPassword(dependencies, password)
  try {
    await operations.changeRepository({ ...wanted, place: { config, credentialsId } })
  } catch (error) {
    // Nothing was started that would take care of them. Otherwise the workflow does, and reconcile where nobody could know.
    if (error instanceof HoldfastError && error.code === 'REPO_BUSY') await discardCredentials(catalog, credentialsId)
    throw error
  }
}

function auditedChange(request: Change): JsonObject {
  const changes: JsonObject = JSON.parse(JSON.stringify(withoutPassword(request)))
  return changes
}

function placeOf({ id: repositoryId, host_id: hostId }: BackupRepository): RepositoryOfHost {
  return { repositoryId, hostId }
}

function requireShare(row: BackupRepository): BackupRepository {
  if (isShareType(row.repository_type)) return row
  throw new HoldfastError('REPO_INVALID', `Repository "${row.name}" is a folder of its host: there is nothing to mount.`, {
    details: { repository_id: row.id },
  })
}

/** Its place does not answer, or holds something else by now. */
const outOfReach = new Set([
  'REPO_UNAVAILABLE',
  'REPO_INVALID',
  'CONNECTION_FAILED',
  'REPO_AUTHENTICATION_FAILED',
  'MOVER_UNAVAILABLE',
])

function advisingForce(error: unknown): never {
  if (!(error instanceof HoldfastError) || !outOfReach.has(error.code)) throw error
  const message = `${error.message} To forget the repository all the same and leave its files where they are, use force=true.`
  throw new HoldfastError(error.code, message, { details: error.details, cause: error, retryable: error.retryable })
}
