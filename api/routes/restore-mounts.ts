/** Restore mounts: open, list, one, its volumes, extend, release. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { mountedDisks } from '../../db/queries/mounted-disks.ts'
import { countRestoreMounts, listRestoreMounts } from '../../db/queries/restore-mounts.ts'
import type { RestoreMountRow } from '../../db/queries/restore-mounts.ts'
import type { Operations } from '../../temporal/operations.ts'
import { restoreMountId } from '../../temporal/restore-mount-ids.ts'
import { mountAnswer, secondsUntil, volumesAnswer } from '../answers/restore-mounts.ts'
import { auditOfMount } from '../audit.ts'
import type { AuditTrail } from '../audit.ts'
import { backupDetailOf, requireCompleted, requireDisks } from '../backup-choice.ts'
import { cursorByTime, readTimeCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import type { StartOnce } from '../middleware/idempotency.ts'
import { mountOf, readyMountOf, refuseUnknown } from '../mount-choice.ts'
import {
  extendMountAnswer,
  mountParameter,
  openMountRequest,
  releaseMountAnswer,
  restoreMountAnswer,
  restoreMountListAnswer,
  restoreMountListQuery,
  volumeListAnswer,
} from '../schemas/restore-mounts.ts'
import { answers, createApi, idempotencyHeader, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const tags = ['restore mounts']

const openMountRoute = createRoute({
  method: 'post',
  path: '/restore/mount',
  tags,
  summary: 'Open a disk of a backup for reading its files',
  description: [
    'Answers when it is mounted. A disk that is mounted already gives the same mount.',
    'The mount ends an hour (as configured) after the last access, and the backup cannot be deleted before that.',
  ].join('\n\n'),
  middleware: permit('mount.open'),
  request: { headers: idempotencyHeader, body: jsonBody(openMountRequest) },
  responses: answers(200, 'Mounted', restoreMountAnswer),
})

const listRoute = createRoute({
  method: 'get',
  path: '/restore/mounts',
  tags,
  summary: 'Restore mounts, newest first, with the time that each has left',
  middleware: permit('mount.view'),
  request: { query: restoreMountListQuery },
  responses: answers(200, 'One page', restoreMountListAnswer),
})

const oneRoute = createRoute({
  method: 'get',
  path: '/restore/mounts/{mount_id}',
  tags,
  summary: 'One restore mount',
  middleware: permit('mount.view'),
  request: { params: mountParameter },
  responses: answers(200, 'The mount', restoreMountAnswer),
})

const volumesRoute = createRoute({
  method: 'get',
  path: '/restore/{mount_id}/volumes',
  tags,
  summary: 'What was found on the disk, also what cannot be read',
  middleware: permit('mount.view'),
  request: { params: mountParameter },
  responses: answers(200, 'All volumes', volumeListAnswer),
})

const extendRoute = createRoute({
  method: 'post',
  path: '/restore/{mount_id}/extend',
  tags,
  summary: 'Begin the time without access anew, up to the longest time of a mount',
  middleware: permit('mount.open'),
  request: { params: mountParameter },
  responses: answers(200, 'Extended', extendMountAnswer),
})

const releaseRoute = createRoute({
  method: 'delete',
  path: '/restore/{mount_id}',
  tags,
  summary: 'Unmount; downloads that run break off',
  middleware: permit('mount.release'),
  request: { params: mountParameter },
  responses: answers(200, 'Unmounted, and nothing of it is left', releaseMountAnswer),
})

export function restoreMounts(dependencies: ApiDependencies, startOnce: StartOnce, audit: AuditTrail): Api {
  const { operations, now } = dependencies
  return createApi()
    .openapi(openMountRoute, async (c) => {
      const { backup_id: backupId, disk_index: diskIndex } = c.req.valid('json')
      const mount = { id: restoreMountId(backupId, diskIndex), backup_id: backupId, disk_index: diskIndex }
      const answer = await startOnce(c, {
        request: { verb: 'mount disk', backupId, diskIndex },
        statusCode: 200,
        shape: restoreMountAnswer,
        newId: () => mount.id,
        // Opening joins what is open already, and is in the audit trail each time.
        recall: async () => undefined,
        start: async (mountId) => {
          await requireMountable(dependencies, backupId, diskIndex)
          await audit.note(c, auditOfMount('mount.open', mount))
          await operations.openMount({ mountId, backupId, diskIndex, ...dependencies.mountLease })
          return { success: true as const, ...(await answerOf(dependencies, await openedMountOf(dependencies, mountId))) }
        },
      })
      return c.json(answer, 200)
    })
    .openapi(listRoute, async (c) => c.json(await listPage(dependencies, c.req.valid('query')), 200))
    .openapi(oneRoute, async (c) => {
      const row = await mountOf(dependencies, c.req.valid('param').mount_id)
      return c.json({ success: true as const, ...(await answerOf(dependencies, row)) }, 200)
    })
    .openapi(volumesRoute, async (c) =>
      c.json(volumesAnswer(await readyMountOf(dependencies, c.req.valid('param').mount_id)), 200),
    )
    .openapi(extendRoute, async (c) => {
      const mount = await mountOf(dependencies, c.req.valid('param').mount_id)
      await audit.note(c, auditOfMount('mount.extend', mount))
      return c.json(extendedAnswer(mount.id, await operations.extendMount(mount.id), now()), 200)
    })
    .openapi(releaseRoute, async (c) => {
      const mount = await mountOf(dependencies, c.req.valid('param').mount_id)
      await audit.note(c, auditOfMount('mount.release', mount))
      await operations.releaseMount(mount.id)
      return c.json({ success: true as const, message: 'backup unmounted successfully' as const, mount_id: mount.id }, 200)
    })
}

/** `BACKUP_NOT_FOUND`, `BACKUP_NOT_COMPLETED`, `DISK_NOT_FOUND`: what the catalog knows without asking a mover. */
async function requireMountable(dependencies: ApiDependencies, backupId: string, diskIndex: number): Promise<void> {
  const { job, disks } = await backupDetailOf(dependencies, backupId)
  requireCompleted(job, 'mounted')
  requireDisks(backupId, disks, [diskIndex])
}

/** What was just opened; `MOUNT_NOT_FOUND` when somebody has released it since. */
async function openedMountOf(dependencies: ApiDependencies, mountId: string): Promise<RestoreMountRow> {
  const row = await mountOf(dependencies, mountId)
  return row.status === 'unmounting' ? refuseUnknown(mountId) : row
}

async function answerOf(dependencies: ApiDependencies, row: RestoreMountRow): Promise<ReturnType<typeof mountAnswer>> {
  const [answer] = await answersOf(dependencies, [row])
  return answer!
}

async function answersOf({ catalog, now }: ApiDependencies, rows: RestoreMountRow[]) {
  const disks = await mountedDisks(
    catalog,
    rows.map((row) => row.backup_disk_id),
  )
  return rows.map((row) => mountAnswer(row, disks.get(row.backup_disk_id), now()))
}

async function listPage(
  dependencies: ApiDependencies,
  { limit, cursor }: z.output<typeof restoreMountListQuery>,
): Promise<z.infer<typeof restoreMountListAnswer>> {
  const { catalog } = dependencies
  const [found, total] = await Promise.all([
    listRestoreMounts(catalog, { limit: limit + 1, after: readTimeCursor(cursor) }),
    countRestoreMounts(catalog),
  ])
  const page = found.slice(0, limit)
  const last = found.length > limit ? page.at(-1) : undefined
  return {
    success: true,
    mounts: await answersOf(dependencies, page),
    count: page.length,
    total_count: total,
    next_cursor: last ? cursorByTime({ createdAt: last.created_at, id: last.id }) : null,
  }
}

function extendedAnswer(
  mountId: string,
  { expiresAt }: Awaited<ReturnType<Operations['extendMount']>>,
  now: Date,
): z.infer<typeof extendMountAnswer> {
  const end = new Date(expiresAt)
  return {
    success: true,
    mount_id: mountId,
    expires_at: end.toISOString(),
    remaining_seconds: secondsUntil(end, now),
    message: 'The mount ends then, unless it is used again before.',
  }
}
