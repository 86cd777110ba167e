/** Source connections: list, add, one, change, delete, test, discover. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { ulid } from 'ulid'
import { checkSourceIsNew, deleteSource, relabelSource } from '../../db/queries/source-records.ts'
import { countSources, findSource, listSources, requireSource, vmCountsOfSources } from '../../db/queries/sources.ts'
import type { SourceRow } from '../../db/queries/sources.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { discardCredentials } from '../../security/sealed-credentials.ts'
import { discoveryAnswer, sourceAnswer } from '../answers/sources.ts'
import { cursorByName, readNameCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import type { StartOnce } from '../middleware/idempotency.ts'
import {
  changedSourceAnswer,
  changeSourceRequest,
  deleteSourceAnswer,
  discoverAnswer,
  registerSourceRequest,
  sourceAnswer as oneAnswer,
  sourceListAnswer,
  sourceListQuery,
  sourceParameter,
} from '../schemas/sources.ts'
import { changedSettings, changesConnection, newSettings, sealed, withoutSecrets } from '../source-settings.ts'
import { answers, createApi, idempotencyHeader, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const tags = ['sources']

const listRoute = createRoute({
  method: 'get',
  path: '/sources',
  tags,
  summary: 'The source connections, by name',
  middleware: permit('source.view'),
  request: { query: sourceListQuery },
  responses: answers(200, 'One page', sourceListAnswer),
})

const registerRoute = createRoute({
  method: 'post',
  path: '/sources',
  tags,
  summary: 'Add a source connection',
  description:
    'The mover of the host reaches the platform before the source is recorded. Credentials are sealed and never shown again.',
  middleware: permit('source.manage'),
  request: { headers: idempotencyHeader, body: jsonBody(registerSourceRequest) },
  responses: answers(201, 'Added', changedSourceAnswer),
})

const oneRoute = createRoute({
  method: 'get',
  path: '/sources/{id}',
  tags,
  summary: 'One source connection',
  middleware: permit('source.view'),
  request: { params: sourceParameter },
  responses: answers(200, 'The source', oneAnswer),
})

const changeRoute = createRoute({
  method: 'patch',
  path: '/sources/{id}',
  tags,
  summary: 'Change a source connection',
  description: 'New settings must reach the platform before they replace the old ones; what is not given stays.',
  middleware: permit('source.manage'),
  request: { params: sourceParameter, body: jsonBody(changeSourceRequest) },
  responses: answers(200, 'Changed', changedSourceAnswer),
})

const deleteRoute = createRoute({
  method: 'delete',
  path: '/sources/{id}',
  tags,
  summary: 'Forget a source connection and its VMs, none of which has a backup',
  middleware: permit('source.manage'),
  request: { params: sourceParameter },
  responses: answers(200, 'Forgotten', deleteSourceAnswer),
})

const testRoute = createRoute({
  method: 'post',
  path: '/sources/{id}/test',
  tags,
  summary: 'Look whether the platform can be reached',
  middleware: permit('source.test'),
  request: { params: sourceParameter },
  responses: answers(200, 'It can', changedSourceAnswer),
})

const discoverRoute = createRoute({
  method: 'post',
  path: '/sources/{id}/discover',
  tags,
  summary: 'Bring the VM contexts to what the platform has; asked twice at once, both wait for one look',
  middleware: permit('source.discover'),
  request: { params: sourceParameter },
  responses: answers(200, 'What was found', discoverAnswer),
})

export function sources(dependencies: ApiDependencies, startOnce: StartOnce): Api {
  const { catalog, operations } = dependencies
  return createApi()
    .openapi(listRoute, async (c) => c.json(await list(dependencies, c.req.valid('query')), 200))
    .openapi(registerRoute, async (c) => {
      const request = c.req.valid('json')
      const answer = await startOnce(c, {
        request: { verb: 'register source', body: withoutSecrets(request) },
        statusCode: 201,
        shape: changedSourceAnswer,
        newId: () => `source-${ulid().toLowerCase()}`,
        recall: (id) => registered(dependencies, id),
        start: (id) => register(dependencies, id, request),
      })
      return c.json(answer, 201)
    })
    .openapi(oneRoute, async (c) => {
      const row = await requireSource(catalog, c.req.valid('param').id)
      return c.json({ success: true as const, source: await shown(dependencies, row) }, 200)
    })
    .openapi(changeRoute, async (c) => c.json(await change(dependencies, c.req.valid('param').id, c.req.valid('json')), 200))
    .openapi(deleteRoute, async (c) => {
      const { id } = c.req.valid('param')
      const removed = await deleteSource(catalog, id)
      const message = `Source forgotten, with ${removed} ${removed === 1 ? 'VM' : 'VMs'}`
      return c.json({ success: true as const, source_id: id, removed_vm_count: removed, message }, 200)
    })
    .openapi(testRoute, async (c) => {
      const { id: sourceId, host_id: hostId } = await requireSource(catalog, c.req.valid('param').id)
      await operations.testSource({ sourceId, hostId })
      return c.json(await changed(dependencies, sourceId, 'The platform can be reached'), 200)
    })
    .openapi(discoverRoute, async (c) => {
      const { id: sourceId, host_id: hostId } = await requireSource(catalog, c.req.valid('param').id)
      return c.json(discoveryAnswer(sourceId, await operations.discoverVms({ sourceId, hostId })), 200)
    })
}

async function list(
  { catalog }: ApiDependencies,
  query: z.output<typeof sourceListQuery>,
): Promise<z.infer<typeof sourceListAnswer>> {
  const { limit } = query
  const filter = { sourceType: query.source_type, hostId: query.host_id, status: query.status }
  const [found, total] = await Promise.all([
    listSources(catalog, filter, { limit: limit + 1, after: readNameCursor(query.cursor) }),
    countSources(catalog, filter),
  ])
  const page = found.slice(0, limit)
  const counts = await vmCountsOfSources(
    catalog,
    page.map((row) => row.id),
  )
  const last = found.length > limit ? page.at(-1) : undefined
  return {
    success: true,
    sources: page.map((row) => sourceAnswer(row, counts.get(row.id) ?? 0)),
    count: page.length,
    total_count: total,
    next_cursor: last ? cursorByName(last) : null,
  }
}

type ChangedSource = z.infer<typeof changedSourceAnswer>

async function register(
  dependencies: ApiDependencies,
  id: string,
  request: z.output<typeof registerSourceRequest>,
): Promise<ChangedSource> {
  const settings = newSettings(id, request, dependencies)
  await checkSourceIsNew(dependencies.catalog, settings)
  const credentialsId = await sealed(dependencies, request.credentials)
  await dependencies.operations.registerSource({ ...settings, credentialsId })
  return changed(dependencies, id, 'Source added')
}

async function registered(dependencies: ApiDependencies, id: string): Promise<ChangedSource | undefined> {
  return (await findSource(dependencies.catalog, id)) && changed(dependencies, id, 'Source added')
}

async function change(
  dependencies: ApiDependencies,
  id: string,
  request: z.output<typeof changeSourceRequest>,
): Promise<ChangedSource> {
  const row = await requireSource(dependencies.catalog, id)
  const settings = changedSettings(row, request)
  await checkSourceIsNew(dependencies.catalog, settings)
  if (!changesConnection(request)) {
    await relabelSource(dependencies.catalog, id, settings)
  } else {
    const { credentials } = request
    const credentialsId = credentials === undefined ? row.credentials_id : await sealed(dependencies, credentials)
    try {
      await dependencies.operations.changeSource({ ...settings, credentialsId })
    } catch (error) {
      // Nothing was started that would take care of them. Otherwise the workflow does, and reconcile where nobody could know.
      if (error instanceof HoldfastError && error.code === 'SOURCE_BUSY')
        await discardCredentials(dependencies.catalog, credentialsId)
      throw error
    }
  }
  return changed(dependencies, id, 'Source changed')
}

async function changed(dependencies: ApiDependencies, id: string, message: string): Promise<ChangedSource> {
  const source = await shown(dependencies, await requireSource(dependencies.catalog, id))
  return { success: true, source_id: id, message, source }
}

async function shown({ catalog }: ApiDependencies, row: SourceRow): Promise<ReturnType<typeof sourceAnswer>> {
  return sourceAnswer(row, (await vmCountsOfSources(catalog, [row.id])).get(row.id) ?? 0)
}
