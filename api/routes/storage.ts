/** How full repositories are: looks at them now, what the last looks found, and how it went. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { countAlerts } from '../../db/queries/alerts.ts'
import { requireRepository } from '../../db/queries/repositories.ts'
import { everyRepository } from '../../db/queries/repository-health.ts'
import { readTrend } from '../../db/queries/repository-samples.ts'
import { HoldfastError, isErrorCode } from '../../domain/errors.ts'
import type { OfflineRepository } from '../../temporal/operations.ts'
import { lookAnswer, refreshAnswer, summaryAnswer, trend } from '../answers/storage.ts'
import { staleBefore } from '../dependencies.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import { repositoryParameter } from '../schemas/repositories.ts'
import { refreshStorageAnswer, storageAnswer, storageSummaryAnswer, trendAnswer, trendQuery } from '../schemas/storage.ts'
import { answers, createApi } from './route.ts'
import type { Api } from './route.ts'

const tags = ['repositories']
const DAY_MS = 24 * 60 * 60 * 1000

const refreshRoute = createRoute({
  method: 'post',
  path: '/repositories/refresh-storage',
  tags,
  summary: 'Look at all repositories now',
  description:
    'All at the same time, through their movers. One that does not answer is counted as failed; the others do not wait for it.',
  middleware: permit('repository.refresh'),
  responses: answers(200, 'Looked at', refreshStorageAnswer),
})

const summaryRoute = createRoute({
  method: 'get',
  path: '/repositories/storage-summary',
  tags,
  summary: 'How full all repositories are',
  description: 'What the last looks found; touches no disk. Repositories that share a file system count with all of it each.',
  middleware: permit('repository.view'),
  responses: answers(200, 'The summary', storageSummaryAnswer),
})

const storageRoute = createRoute({
  method: 'get',
  path: '/repositories/{id}/storage',
  tags,
  summary: 'Look at a repository now',
  description:
    'What was found is noted, also that it does not answer: that is REPO_UNAVAILABLE, CONNECTION_FAILED, MOVER_UNAVAILABLE …',
  middleware: permit('repository.refresh'),
  request: { params: repositoryParameter },
  responses: answers(200, 'How it is now', storageAnswer),
})

const trendRoute = createRoute({
  method: 'get',
  path: '/repositories/{id}/trend',
  tags,
  summary: 'How full it was, and when it will be full',
  middleware: permit('repository.view'),
  request: { params: repositoryParameter, query: trendQuery },
  responses: answers(200, 'The trend', trendAnswer),
})

/** Before the repositories: "storage-summary" is also a word that could be an id. */
export function storage(dependencies: ApiDependencies): Api {
  const { catalog, operations, now } = dependencies
  return createApi()
    .openapi(refreshRoute, async (c) => c.json(refreshAnswer(await operations.refreshStorage()), 200))
    .openapi(summaryRoute, async (c) => {
      const [rows, unresolvedAlerts] = await Promise.all([
        everyRepository(catalog),
        countAlerts(catalog, { state: 'unresolved' }),
      ])
      return c.json(summaryAnswer(rows, { unresolvedAlerts, staleBefore: staleBefore(dependencies) }), 200)
    })
    .openapi(storageRoute, async (c) => c.json(await lookNow(dependencies, c.req.valid('param').id), 200))
    .openapi(trendRoute, async (c) => {
      const { id } = await requireRepository(catalog, c.req.valid('param').id)
      const to = now()
      const period = { from: new Date(to.getTime() - c.req.valid('query').days * DAY_MS), to }
      return c.json(trend(id, period, await readTrend(catalog, id, period)), 200)
    })
}

async function lookNow({ catalog, operations }: ApiDependencies, id: string): Promise<z.infer<typeof storageAnswer>> {
  const { host_id: hostId } = await requireRepository(catalog, id)
  const { offline } = await operations.lookAtRepository({ repositoryId: id, hostId })
  if (offline[0]) throw asFailure(offline[0])
  const [row, readOnlyAlerts] = await Promise.all([
    requireRepository(catalog, id),
    countAlerts(catalog, { repositoryId: id, kind: 'repository_read_only', state: 'unresolved' }),
  ])
  return lookAnswer(row, { readOnly: readOnlyAlerts > 0 })
}

/** In the code that says why; it may answer again by itself, so callers may ask again. */
function asFailure({ repositoryId, code, message }: OfflineRepository): HoldfastError {
  const known = isErrorCode(code) && code !== 'INTERNAL' ? code : 'REPO_UNAVAILABLE'
  return new HoldfastError(known, message, { details: { repository_id: repositoryId, health_status: 'offline' } })
}
