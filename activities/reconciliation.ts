/**
 * Finding and repairing what no workflow owns. Everything here may meet work that is just beginning or just ending, so each repair
 * looks again right before it acts, and acts only on what is named by its backup's id.
 */
import type { Catalog } from '../db/client.ts'
import { listReaderPins, removeObservedPin } from '../db/queries/pins.ts'
import type { ObservedPin } from '../db/queries/pins.ts'
import { listUnfinished } from '../db/queries/unfinished.ts'
import type { UnfinishedWork } from '../db/queries/unfinished.ts'
import { guarded } from './failure.ts'
import type { RunningWorkflows } from './running-workflows.ts'

/** Something found; `what` says it to people, with what was done about it. */
export interface Repair {
  kind:
    | 'backup'
    | 'restore'
    | 'deletion'
    | 'mount'
    | 'pin'
    | 'staged'
    | 'sockets'
    | 'credentials'
    | 'orphan'
    | 'report'
    | 'unrepaired'
  what: string
}

/** A row that says work goes on although no workflow does it. */
export interface AbandonedWork {
  kind: UnfinishedWork['kind']
  id: string
  hostId: string
  repositoryId: string
  /** Of a deletion: when its mark was set, of a mount: when it began; ISO 8601. What was set or began later belongs to somebody else. */
  markedAt?: string
}

/** A staging folder that no row explains. */
export interface Leftover {
  repositoryId: string
  vmFolder: string
  backupId: string
}

export interface ReconciliationActivities {
  /** Unfinished rows without a workflow, and every host that has a repository. Changes nothing. */
  findAbandonedWork(): Promise<{ abandoned: AbandonedWork[]; hostIds: string[] }>

  /** Pins whose reader is gone; that of a restore or mount only after it has been settled. A deletion's mark is settled on the host, where the files show how far it got. */
  removeAbandonedPins(): Promise<Repair[]>

  /** Of these staging folders, those that no running workflow fills. */
  withoutOwner(leftovers: Leftover[]): Promise<Leftover[]>
}

/** Steps of the control worker. */
export function createReconciliationActivities({
  catalog,
  workflows,
}: {
  catalog: Catalog
  workflows: RunningWorkflows
}): ReconciliationActivities {
  return guarded({
    async findAbandonedWork(): Promise<{ abandoned: AbandonedWork[]; hostIds: string[] }> {
      const { unfinished, hostIds } = await listUnfinished(catalog)
      const abandoned: AbandonedWork[] = []
      for (const { kind, id, hostId, repositoryId, workflowId, backupId, markedAt } of unfinished) {
        const ownedBy = kind === 'backup' ? backupId : undefined
        if (await workflows.isRunning(workflowId, ownedBy)) continue
        if (kind === 'backup' && (await workflows.isWorkingOn(backupId))) continue
        abandoned.push({ kind, id, hostId, repositoryId, ...(markedAt && { markedAt: markedAt.toISOString() }) })
      }
      return { abandoned, hostIds }
    },

    async removeAbandonedPins(): Promise<Repair[]> {
      const repairs: Repair[] = []
      for (const pin of await listReaderPins(catalog)) {
        if (await workflows.isRunning(pin.owner_workflow_id)) continue
        repairs.push(...(await removeAbandonedPin(catalog, pin)))
      }
      return repairs
    },

    async withoutOwner(leftovers: Leftover[]): Promise<Leftover[]> {
      const free: Leftover[] = []
      for (const leftover of leftovers) if (!(await workflows.isWorkingOn(leftover.backupId))) free.push(leftover)
      return free
    },
  })
}

async function removeAbandonedPin(catalog: Catalog, pin: ObservedPin): Promise<Repair[]> {
  const removed = await removeObservedPin(catalog, pin)
  return removed
    ? [{ kind: 'pin', what: `removed the pin of ${pin.owner_workflow_id}, which has ended, from ${pin.backup_id}` }]
    : []
}
