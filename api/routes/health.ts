/** Whether the parts that the API stands on answer. Open, and always 200: the API itself is up, or nobody would answer. */
import { createRoute } from '@hono/zod-openapi'
import { sql } from 'kysely'
import type { Catalog } from '../../db/client.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { healthAnswer } from '../schemas/health.ts'
import { answers, createApi } from './route.ts'
import type { Api } from './route.ts'

/** A part that needs longer is as good as down. */
const PATIENCE_MS = 2_000

const healthRoute = createRoute({
  method: 'get',
  path: '/health',
  tags: ['health'],
  summary: 'Whether the catalog and Temporal answer',
  security: [],
  responses: answers(200, 'The API is up; `degraded` when a part is not', healthAnswer),
})

export function health({ catalog, operations, now }: ApiDependencies): Api {
  return createApi().openapi(healthRoute, async (c) => {
    const [catalogUp, temporalUp] = await Promise.all([
      withinPatience(catalogAnswers(catalog)),
      withinPatience(operations.healthy()),
    ])
    return c.json(
      {
        success: true as const,
        status: catalogUp && temporalUp ? ('ok' as const) : ('degraded' as const),
        catalog: catalogUp ? ('up' as const) : ('down' as const),
        temporal: temporalUp ? ('up' as const) : ('down' as const),
        time: now().toISOString(),
      },
      200,
    )
  })
}

async function catalogAnswers(catalog: Catalog): Promise<boolean> {
  try {
    await sql`select 1`.execute(catalog)
    return true
  } catch {
    // Why it is down stands in the log of whoever needed it; here only that it is.
    return false
  }
}

async function withinPatience(answer: Promise<boolean>): Promise<boolean> {
  const { promise: patience, resolve } = Promise.withResolvers<boolean>()
  const timer = setTimeout(() => resolve(false), PATIENCE_MS)
  try {
    return await Promise.race([answer, patience])
  } finally {
    clearTimeout(timer)
  }
}
