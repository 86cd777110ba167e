/** Whether the locks of a repository hold, looked at now. */
import { createRoute } from '@hono/zod-openapi'
import { requireRepository } from '../../db/queries/repositories.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import { attestLocksAnswer, repositoryParameter } from '../schemas/repositories.ts'
import { answers, createApi } from './route.ts'
import type { Api } from './route.ts'

const attestRoute = createRoute({
  method: 'post',
  path: '/repositories/{id}/attest',
  tags: ['repositories'],
  summary: 'Look now whether everything that was locked still is',
  description:
    'As it happens once a day. What is not locked and should be is locked again, and an alert `immutability_broken` stays open until a look finds that all of it holds.',
  middleware: permit('repository.attest'),
  request: { params: repositoryParameter },
  responses: answers(200, 'What was found', attestLocksAnswer),
})

export function repositoryLocks({ catalog, operations }: ApiDependencies): Api {
  return createApi().openapi(attestRoute, async (c) => {
    const row = await requireRepository(catalog, c.req.valid('param').id)
    const { checked, broken } = await operations.attestLocks({ repositoryId: row.id, hostId: row.host_id })
    return c.json(
      {
        success: true as const,
        repository_id: row.id,
        checked,
        broken: broken.map(({ backupId, missing, relocked }) => ({ backup_id: backupId, missing, relocked })),
      },
      200,
    )
  })
}
