/** Restores: start, list, one, cancel. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { ulid } from 'ulid'
import { disksOfBackup } from '../../db/queries/backup-detail.ts'
import { localRepositoriesOf } from '../../db/queries/repositories.ts'
import { countRestores, findRestore, listRestores } from '../../db/queries/restores.ts'
import type { RestoreJob } from '../../db/queries/restores.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { restoreAnswer } from '../answers/restores.ts'
import { backupDetailOf, isActive, requireCompleted } from '../backup-choice.ts'
import { cursorByTime, readTimeCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { isNormalAbsolutePath, liesIn } from '../host-paths.ts'
import { permit } from '../middleware/authorize.ts'
import type { StartOnce } from '../middleware/idempotency.ts'
import { backupParameter } from '../schemas/backups.ts'
import {
  cancelRestoreAnswer,
  restoreAnswer as oneAnswer,
  restoreListAnswer,
  restoreListQuery,
  restoreParameter,
  startRestoreAnswer,
  startRestoreRequest,
} from '../schemas/restores.ts'
import type { TotalOf } from '../totals.ts'
import { answers, createApi, idempotencyHeader, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const tags = ['restores']

const startRoute = createRoute({
  method: 'post',
  path: '/backups/{id}/restore',
  tags,
  summary: 'Restore one disk of a backup to a new file',
  description: 'Sparse, and checked against the hashes of birth while it is written.',
  middleware: permit('restore.start'),
  request: { headers: idempotencyHeader, params: backupParameter, body: jsonBody(startRestoreRequest) },
  responses: answers(202, 'Started', startRestoreAnswer),
})

const listRoute = createRoute({
  method: 'get',
  path: '/restores',
  tags,
  summary: 'Restores, newest first',
  middleware: permit('restore.view'),
  request: { query: restoreListQuery },
  responses: answers(200, 'One page', restoreListAnswer),
})

const oneRoute = createRoute({
  method: 'get',
  path: '/restores/{id}',
  tags,
  summary: 'One restore with its progress, rate and ETA',
  middleware: permit('restore.view'),
  request: { params: restoreParameter },
  responses: answers(200, 'The restore', oneAnswer),
})

const cancelRoute = createRoute({
  method: 'post',
  path: '/restores/{id}/cancel',
  tags,
  summary: 'Ask a running restore to stop and remove its file',
  middleware: permit('restore.cancel'),
  request: { params: restoreParameter },
  responses: answers(202, 'Asked; the restore ends as `cancelled`', cancelRestoreAnswer),
})

export function restores(dependencies: ApiDependencies, startOnce: StartOnce, totalOf: TotalOf): Api {
  const { catalog, now } = dependencies
  return createApi()
    .openapi(startRoute, async (c) => {
      const { id } = c.req.valid('param')
      const request = c.req.valid('json')
      const answer = await startOnce(c, {
        request: { verb: 'restore disk', id, body: request },
        statusCode: 202,
        shape: startRestoreAnswer,
        newId: () => `restore-${ulid().toLowerCase()}`,
        recall: async (restoreId) => {
          const row = await findRestore(catalog, restoreId)
          return row && startedAnswer(row)
        },
        start: (restoreId) => start(dependencies, restoreId, id, request),
      })
      return c.json(answer, 202)
    })
    .openapi(listRoute, async (c) => c.json(await listPage(dependencies, totalOf, c.req.valid('query')), 200))
    .openapi(oneRoute, async (c) => {
      const restore = restoreAnswer(await restoreOf(dependencies, c.req.valid('param').id), now())
      return c.json({ success: true as const, ...restore, restore }, 200)
    })
    .openapi(cancelRoute, async (c) => c.json(await cancel(dependencies, c.req.valid('param').id), 202))
}

type StartedAnswer = z.infer<typeof startRestoreAnswer>

async function start(
  dependencies: ApiDependencies,
  restoreId: string,
  backupId: string,
  request: z.output<typeof startRestoreRequest>,
): Promise<StartedAnswer> {
  const { catalog, operations, now } = dependencies
  const { job, repository } = await backupDetailOf(dependencies, backupId)
  requireCompleted(job, 'restored')
  const disks = await disksOfBackup(catalog, backupId)
  if (!disks.some((disk) => disk.disk_index === request.disk_index)) {
    throw new HoldfastError('DISK_NOT_FOUND', `This backup has no disk ${request.disk_index}.`, {
      details: { backup_id: backupId, disk_index: request.disk_index, disk_indexes: disks.map((disk) => disk.disk_index) },
    })
  }
  await checkTarget(dependencies, repository.host_id, request.target_path)
  await operations.restoreDisk({
    restoreId,
    backupId,
    diskIndex: request.disk_index,
    targetPath: request.target_path,
    targetFormat: request.format,
  })
  return startedAnswer({
    id: restoreId,
    backup_id: backupId,
    disk_index: request.disk_index,
    target_path: request.target_path,
    target_format: request.format,
    created_at: now(),
  })
}

/** By its text alone: links, and whether it exists, are for the mover to see. `RESTORE_TARGET_INVALID`. */
async function checkTarget({ catalog }: ApiDependencies, hostId: string, targetPath: string): Promise<void> {
  if (!isNormalAbsolutePath(targetPath)) {
    throw new HoldfastError(
      'RESTORE_TARGET_INVALID',
      'The target must be an absolute path without "..", ".", "//", control characters or a slash at the end.',
    )
  }
  for (const repository of await localRepositoriesOf(catalog, hostId)) {
    const { path } = repository.config
    if (typeof path === 'string' && liesIn(targetPath, path)) {
      throw new HoldfastError(
        'RESTORE_TARGET_INVALID',
        `The target lies inside repository "${repository.name}": choose a place outside.`,
        {
          details: { repository_id: repository.id },
        },
      )
    }
  }
}

function startedAnswer(
  row: Pick<RestoreJob, 'id' | 'backup_id' | 'disk_index' | 'target_path' | 'target_format' | 'created_at'>,
): StartedAnswer {
  return {
    success: true,
    restore_id: row.id,
    backup_id: row.backup_id,
    disk_index: row.disk_index,
    target_path: row.target_path,
    format: row.target_format,
    status: 'started',
    created_at: row.created_at.toISOString(),
    message: 'Restore started.',
  }
}

async function listPage(
  { catalog, now }: ApiDependencies,
  totalOf: TotalOf,
  query: z.output<typeof restoreListQuery>,
): Promise<z.infer<typeof restoreListAnswer>> {
  const { limit } = query
  const filter = { backupId: query.backup_id, vmName: query.vm_name, status: query.status }
  const [found, total] = await Promise.all([
    listRestores(catalog, filter, { limit: limit + 1, after: readTimeCursor(query.cursor) }),
    totalOf('restores', filter, (most) => countRestores(catalog, filter, most)),
  ])
  const page = found.slice(0, limit)
  const last = found.length > limit ? page.at(-1) : undefined
  return {
    success: true,
    restores: page.map((row) => restoreAnswer(row, now())),
    count: page.length,
    total_count: total,
    next_cursor: last ? cursorByTime({ createdAt: last.created_at, id: last.id }) : null,
  }
}

/** `RESTORE_NOT_FOUND`. */
async function restoreOf({ catalog }: ApiDependencies, id: string): Promise<RestoreJob> {
  const row = await findRestore(catalog, id)
  if (row) return row
  throw new HoldfastError('RESTORE_NOT_FOUND', 'There is no such restore: GET /restores lists them.', {
    details: { restore_id: id },
  })
}

async function cancel(dependencies: ApiDependencies, id: string): Promise<z.infer<typeof cancelRestoreAnswer>> {
  const restore = await restoreOf(dependencies, id)
  if (!isActive(restore)) {
    throw new HoldfastError('RESTORE_NOT_RUNNING', `This restore is ${restore.status}: there is nothing to cancel.`, {
      details: { restore_id: id, status: restore.status },
    })
  }
  await dependencies.operations.cancelRestore(id)
  return { success: true, restore_id: id, status: 'cancelling', message: 'The restore stops and removes its file.' }
}
