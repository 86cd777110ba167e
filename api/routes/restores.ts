/** Restores: start, list, one, cancel. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { ulid } from 'ulid'
import { disksOfBackup } from '../../db/queries/backup-detail.ts'
import { countRestores, disksOfRestores, findRestore, listRestores } from '../../db/queries/restores.ts'
import type { RestoreJob } from '../../db/queries/restores.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { restoreAnswer, targetFile } from '../answers/restores.ts'
import type { DiskRestoreAnswer, StartedRestore, VmRestoreAnswer } from '../answers/restores.ts'
import { backupDetailOf, isActive, requireCompleted, requireDisks } from '../backup-choice.ts'
import { cursorByTime, readTimeCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
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
import { checkRestoreTarget } from '../restore-target.ts'
import type { TotalOf } from '../totals.ts'
import { startVmRestore } from '../vm-restore-start.ts'
import { answers, createApi, idempotencyHeader, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const tags = ['restores']

const startRoute = createRoute({
  method: 'post',
  path: '/backups/{id}/restore',
  tags,
  summary: 'Restore one disk of a backup to a new file, or its disks to a VM',
  description: [
    'Every block is checked against the hashes of birth while it is written.',
    '`disk_index` and `target_path`: one disk as a new, sparse file.',
    '`"target": "libvirt"`: a new VM with its own name, UUID and network addresses, beside the original if that still exists.',
    '`"target": "original"`: the disks of the VM itself, which must be shut off and confirmed by its exact name; the next backup is a full.',
  ].join('\n\n'),
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
  summary: 'Ask a running restore to stop and remove what it wrote',
  middleware: permit('restore.cancel'),
  request: { params: restoreParameter },
  responses: answers(202, 'Asked; the restore ends as `cancelled`', cancelRestoreAnswer),
})

export function restores(dependencies: ApiDependencies, startOnce: StartOnce, totalOf: TotalOf): Api {
  const { catalog } = dependencies
  return createApi()
    .openapi(startRoute, async (c) => {
      const { id } = c.req.valid('param')
      const request = c.req.valid('json')
      const answer = await startOnce(c, {
        request: { verb: 'disk_index' in request ? 'restore disk' : 'restore VM', id, body: request },
        statusCode: 202,
        shape: startRestoreAnswer,
        newId: () => `restore-${ulid().toLowerCase()}`,
        recall: async (restoreId) => {
          const row = await findRestore(catalog, restoreId)
          return row && startedAnswer(row)
        },
        start: async (restoreId) =>
          'disk_index' in request
            ? startedAnswer(await startDiskRestore(dependencies, restoreId, id, request))
            : startedAnswer(await startVmRestore(dependencies, restoreId, id, request)),
      })
      return c.json(answer, 202)
    })
    .openapi(listRoute, async (c) => c.json(await listPage(dependencies, totalOf, c.req.valid('query')), 200))
    .openapi(oneRoute, async (c) => {
      const [restore] = await answersOf(dependencies, [await restoreOf(dependencies, c.req.valid('param').id)])
      return c.json(inBothForms(restore!), 200)
    })
    .openapi(cancelRoute, async (c) => c.json(await cancel(dependencies, c.req.valid('param').id), 202))
}

type StartedAnswer = z.infer<typeof startRestoreAnswer>

async function startDiskRestore(
  dependencies: ApiDependencies,
  restoreId: string,
  backupId: string,
  request: Extract<z.output<typeof startRestoreRequest>, { disk_index: number }>,
): Promise<StartedRestore> {
  const { catalog, operations, now } = dependencies
  const { job, repository } = await backupDetailOf(dependencies, backupId)
  requireCompleted(job, 'restored')
  requireDisks(backupId, await disksOfBackup(catalog, backupId), [request.disk_index])
  await checkRestoreTarget(catalog, repository.host_id, request.target_path)
  const { disk_index: diskIndex, target_path: targetPath, format: targetFormat } = request
  await operations.restoreDisk({ restoreId, backupId, diskIndex, targetPath, targetFormat })
  return {
    id: restoreId,
    backup_id: backupId,
    target: null,
    disk_index: diskIndex,
    target_path: targetPath,
    final_path: null,
    target_format: targetFormat,
    created_at: now(),
  }
}

function startedAnswer(row: StartedRestore): StartedAnswer {
  const common = {
    success: true as const,
    restore_id: row.id,
    backup_id: row.backup_id,
    status: 'started' as const,
    created_at: row.created_at.toISOString(),
    message: 'Restore started.',
  }
  if (row.target === null) return { ...common, ...targetFile(row) }
  const { type: target, sourceId, vmName } = row.target
  return { ...common, target, source_id: sourceId, vm_name: vmName }
}

/** With the disks of those that are of whole VMs. */
async function answersOf(
  { catalog, now }: ApiDependencies,
  rows: RestoreJob[],
): Promise<(DiskRestoreAnswer | VmRestoreAnswer)[]> {
  const ofVms = rows.filter((row) => row.target !== null).map((row) => row.id)
  const disks = await disksOfRestores(catalog, ofVms)
  return rows.map((row) => restoreAnswer(row, disks.get(row.id) ?? [], now()))
}

function inBothForms(restore: DiskRestoreAnswer | VmRestoreAnswer): z.infer<typeof oneAnswer> {
  return 'disks' in restore ? { success: true, ...restore, restore } : { success: true, ...restore, restore }
}

async function listPage(
  dependencies: ApiDependencies,
  totalOf: TotalOf,
  query: z.output<typeof restoreListQuery>,
): Promise<z.infer<typeof restoreListAnswer>> {
  const { catalog } = dependencies
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
    restores: await answersOf(dependencies, page),
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
  return { success: true, restore_id: id, status: 'cancelling', message: 'The restore stops and removes what it wrote.' }
}
