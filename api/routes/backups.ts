/** Backups: start, list, one, cancel, delete, verify. The `/backup/…` paths are documented aliases with the same handlers. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { countBackups, listBackups } from '../../db/queries/backup-list.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { backupDetailAnswer, listedBackupAnswer } from '../answers/backups.ts'
import { backupDetailOf, backupOf, isActive, requireCompleted } from '../backup-choice.ts'
import { newBackupId, recallBackup, startBackup } from '../backup-start.ts'
import { cursorByTime, readTimeCursor } from '../cursor.ts'
import type { ApiDependencies, ApiEnv } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import type { StartOnce } from '../middleware/idempotency.ts'
import {
  backupAnswer,
  backupListAnswer,
  backupListQuery,
  backupParameter,
  cancelBackupAnswer,
  deleteBackupAnswer,
  startBackupAnswer,
  startBackupRequest,
  verifyBackupAnswer,
} from '../schemas/backups.ts'
import type { TotalOf } from '../totals.ts'
import { chooseVm } from '../vm-choice.ts'
import { answers, createApi, idempotencyHeader, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const tags = ['backups']

const startRoute = <Path extends string>(path: Path) =>
  createRoute({
    method: 'post',
    path,
    tags,
    summary: 'Start a backup of a VM, all its disks at one instant',
    description:
      'Answers when the backup is admitted: what it will be, and why. An incremental without a usable parent becomes a full; `full_reason` says why.',
    middleware: permit('backup.start'),
    request: { headers: idempotencyHeader, body: jsonBody(startBackupRequest) },
    responses: answers(202, 'Started', startBackupAnswer),
  })

const listRoute = <Path extends string>(path: Path) =>
  createRoute({
    method: 'get',
    path,
    tags,
    summary: 'Backups, newest first',
    middleware: permit('backup.view'),
    request: { query: backupListQuery },
    responses: answers(200, 'One page. A `total_count` above 10 000 may be some seconds old.', backupListAnswer),
  })

const oneRoute = <Path extends string>(path: Path) =>
  createRoute({
    method: 'get',
    path,
    tags,
    summary: 'One backup with the progress, rate and ETA of each disk',
    middleware: permit('backup.view'),
    request: { params: backupParameter },
    responses: answers(200, 'The backup', backupAnswer),
  })

const deleteRoute = <Path extends string>(path: Path) =>
  createRoute({
    method: 'delete',
    path,
    tags,
    summary: 'Delete a backup that nothing depends on',
    middleware: permit('backup.delete'),
    request: { params: backupParameter },
    responses: answers(200, 'Deleted', deleteBackupAnswer),
  })

const cancelRoute = createRoute({
  method: 'post',
  path: '/backups/{id}/cancel',
  tags,
  summary: 'Ask a running backup to stop and clean up',
  middleware: permit('backup.cancel'),
  request: { params: backupParameter },
  responses: answers(202, 'Asked; the backup ends as `cancelled`', cancelBackupAnswer),
})

const verifyRoute = createRoute({
  method: 'post',
  path: '/backups/{id}/verify',
  tags,
  summary: 'Read back every block and compare it with its hash of birth',
  middleware: permit('backup.verify'),
  request: { headers: idempotencyHeader, params: backupParameter },
  responses: answers(202, 'Started, or joined the verification that runs', verifyBackupAnswer),
})

export function backups(dependencies: ApiDependencies, startOnce: StartOnce, totalOf: TotalOf): Api {
  const start = (c: Context<ApiEnv>, request: z.output<typeof startBackupRequest>) =>
    startUnderOneId(dependencies, startOnce, c, request)
  const list = (query: z.output<typeof backupListQuery>) => listPage(dependencies, totalOf, query)
  const one = (id: string) => show(dependencies, id)
  const remove = (id: string) => deleteBackup(dependencies, id)
  return createApi()
    .openapi(startRoute('/backups'), async (c) => c.json(await start(c, c.req.valid('json')), 202))
    .openapi(startRoute('/backup/start'), async (c) => c.json(await start(c, c.req.valid('json')), 202))
    .openapi(listRoute('/backups'), async (c) => c.json(await list(c.req.valid('query')), 200))
    .openapi(listRoute('/backup/list'), async (c) => c.json(await list(c.req.valid('query')), 200))
    .openapi(oneRoute('/backups/{id}'), async (c) => c.json(await one(c.req.valid('param').id), 200))
    .openapi(oneRoute('/backup/{id}'), async (c) => c.json(await one(c.req.valid('param').id), 200))
    .openapi(deleteRoute('/backups/{id}'), async (c) => c.json(await remove(c.req.valid('param').id), 200))
    .openapi(deleteRoute('/backup/{id}'), async (c) => c.json(await remove(c.req.valid('param').id), 200))
    .openapi(cancelRoute, async (c) => c.json(await cancel(dependencies, c.req.valid('param').id), 202))
    .openapi(verifyRoute, async (c) => {
      const { id } = c.req.valid('param')
      const answer = await startOnce(c, {
        request: { verb: 'verify backup', id },
        statusCode: 202,
        shape: verifyBackupAnswer,
        newId: () => id,
        // Asking again joins the verification that runs, so there is nothing to recall.
        recall: async () => undefined,
        start: () => verify(dependencies, id),
      })
      return c.json(answer, 202)
    })
}

async function startUnderOneId(
  dependencies: ApiDependencies,
  startOnce: StartOnce,
  c: Context<ApiEnv>,
  request: z.output<typeof startBackupRequest>,
): Promise<z.infer<typeof startBackupAnswer>> {
  const vm = await chooseVm(dependencies.catalog, request)
  return startOnce(c, {
    request: { verb: 'start backup', body: request },
    statusCode: 202,
    shape: startBackupAnswer,
    newId: () => newBackupId(vm, dependencies.now()),
    recall: (backupId) => recallBackup(dependencies, backupId, vm, request),
    start: (backupId) => startBackup(dependencies, backupId, vm, request),
  })
}

async function listPage(
  { catalog }: ApiDependencies,
  totalOf: TotalOf,
  query: z.output<typeof backupListQuery>,
): Promise<z.infer<typeof backupListAnswer>> {
  const { limit } = query
  const filter = {
    vmContextId: query.vm_context_id,
    vmName: query.vm_name,
    repositoryId: query.repository_id,
    status: query.status,
    backupType: query.backup_type,
    from: query.from === undefined ? undefined : new Date(query.from),
    to: query.to === undefined ? undefined : new Date(query.to),
  }
  const [found, total] = await Promise.all([
    listBackups(catalog, filter, { limit: limit + 1, after: readTimeCursor(query.cursor) }),
    totalOf('backups', filter, (most) => countBackups(catalog, filter, most)),
  ])
  const page = found.slice(0, limit)
  const last = found.length > limit ? page.at(-1) : undefined
  return {
    success: true,
    backups: page.map(listedBackupAnswer),
    count: page.length,
    total_count: total,
    next_cursor: last ? cursorByTime({ createdAt: last.created_at, id: last.id }) : null,
  }
}

async function show(dependencies: ApiDependencies, id: string): Promise<z.infer<typeof backupAnswer>> {
  const backup = backupDetailAnswer(await backupDetailOf(dependencies, id), dependencies.now())
  return { success: true, ...backup, backup }
}

async function deleteBackup(dependencies: ApiDependencies, id: string): Promise<z.infer<typeof deleteBackupAnswer>> {
  const backup = await backupOf(dependencies, id)
  if (isActive(backup)) {
    throw new HoldfastError('VM_BUSY', 'This backup is still being made: cancel it first with POST /backups/{id}/cancel.', {
      details: { backup_id: id, status: backup.status },
    })
  }
  await dependencies.operations.deleteBackup(backup.vm_context_id, id)
  return { success: true, backup_id: id, message: 'Backup deleted successfully' }
}

async function cancel(dependencies: ApiDependencies, id: string): Promise<z.infer<typeof cancelBackupAnswer>> {
  const backup = await backupOf(dependencies, id)
  if (!isActive(backup)) {
    throw new HoldfastError('BACKUP_NOT_RUNNING', `This backup is ${backup.status}: there is nothing to cancel.`, {
      details: { backup_id: id, status: backup.status },
    })
  }
  await dependencies.operations.cancelBackup(backup.vm_context_id, id)
  return { success: true, backup_id: id, status: 'cancelling', message: 'The backup stops and cleans up.' }
}

async function verify(dependencies: ApiDependencies, id: string): Promise<z.infer<typeof verifyBackupAnswer>> {
  const backup = await backupOf(dependencies, id)
  requireCompleted(backup, 'verified')
  const { workflowId } = await dependencies.operations.verifyBackup(id, backup.repository_id)
  return {
    success: true,
    backup_id: id,
    repository_id: backup.repository_id,
    workflow_id: workflowId,
    status: 'started',
    verification_status: backup.verification_status,
    message: 'Every block is read back and compared with its hash of birth.',
  }
}
