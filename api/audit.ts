/** Writes the audit trail: before anything is done, so that nothing is done that it does not hold. */
import type { Context } from 'hono'
import { insertAuditEvent } from '../db/queries/audit.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { ApiDependencies, ApiEnv } from './dependencies.ts'

/** The noun, then what was done. `…-ended` says how a download came out. */
export const auditActions = [
  'repository.register',
  'repository.test',
  'repository.change',
  'repository.delete',
  'repository.mount',
  'repository.unmount',
  'alert.acknowledge',
  'mount.open',
  'mount.extend',
  'mount.release',
  'file.list',
  'file.estimate',
  'file.search',
  'file.look',
  'file.download',
  'file.download-ended',
  'file.download-directory',
  'file.download-directory-ended',
] as const
export type AuditAction = (typeof auditActions)[number]

export interface AuditNote {
  action: AuditAction
  subjectType: 'restore-mount' | 'repository' | 'alert'
  subjectId: string
  details: JsonObject
}

/** Something done with a mount. `more`: the path, the range … */
export function auditOfMount(
  action: AuditAction,
  mount: { id: string; backup_id: string; disk_index: number },
  more: JsonObject = {},
): AuditNote {
  const details = { backup_id: mount.backup_id, disk_index: mount.disk_index, ...more }
  return { action, subjectType: 'restore-mount', subjectId: mount.id, details }
}

/** Something done with a repository, registered or not. `details`: what was asked, without its secrets. */
export function auditOfRepository(action: AuditAction, repositoryId: string, details: JsonObject): AuditNote {
  return { action, subjectType: 'repository', subjectId: repositoryId, details }
}

export function auditOfAlert(action: AuditAction, alertId: string, details: JsonObject): AuditNote {
  return { action, subjectType: 'alert', subjectId: alertId, details }
}

export interface AuditTrail {
  /** Who asks, and what for. `CATALOG_UNAVAILABLE` when it cannot be written: then it must not be done. */
  note(c: Context<ApiEnv>, note: AuditNote): Promise<void>
  /** How something came out that {@link note} holds already: never throws, for there is nothing left to refuse. */
  noteEnd(c: Context<ApiEnv>, note: AuditNote): Promise<void>
}

export function createAuditTrail({ catalog, logger, now }: Pick<ApiDependencies, 'catalog' | 'logger' | 'now'>): AuditTrail {
  async function note(c: Context<ApiEnv>, { action, subjectType, subjectId, details }: AuditNote): Promise<void> {
    const { userId, username } = c.get('session')
    const remoteAddress = c.env?.incoming?.socket.remoteAddress?.slice(0, 64) ?? null
    const who = { userId, username, requestId: c.get('requestId'), remoteAddress }
    try {
      await insertAuditEvent(catalog, { at: now(), ...who, action, subjectType, subjectId, details })
    } catch (cause) {
      throw new HoldfastError('CATALOG_UNAVAILABLE', 'Refused, because it cannot be written into the audit trail.', { cause })
    }
  }
  return {
    note,
    async noteEnd(c, end) {
      try {
        await note(c, end)
      } catch (error) {
        logger.error(
          { err: error, requestId: c.get('requestId'), action: end.action },
          'the audit trail lacks how a download ended',
        )
      }
    },
  }
}
