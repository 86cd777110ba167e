/** Prepares a Temporal server for Holdfast: the namespace with its retention, and the search attributes. */
import type { Connection } from '@temporalio/client'
import { msToTs } from '@temporalio/common/lib/time.js'
import { HoldfastError } from '../domain/errors.ts'
import { searchAttributeKeys } from '../workflows/search-attributes.ts'
import { hasGrpcStatus } from './grpc-status.ts'

export { searchAttributeKeys, searchAttributesFor } from '../workflows/search-attributes.ts'

/** How long closed workflows stay readable. */
export const NAMESPACE_RETENTION_MS = 30 * 24 * 60 * 60 * 1000

/** A real server spreads a new namespace to its caches within about ten seconds. */
const VISIBLE_WITHIN_MS = 30_000
const POLL_MS = 250
const KEYWORD = 2

type Services = Pick<Connection, 'workflowService' | 'operatorService'>

/**
 * Makes sure that the namespace exists (with 30 days of retention when it is made here; an existing one keeps the retention its
 * administrator chose) and that it knows every search attribute. Idempotent; safe to run from several processes at once.
 * Works on the development server and on a real one. `ORCHESTRATOR_UNAVAILABLE` when the server does not get ready in time.
 */
export async function ensureNamespace(connection: Services, namespace: string): Promise<void> {
  const deadline = Date.now() + VISIBLE_WITHIN_MS
  await untilReady(namespace, deadline, async () => {
    await createNamespace(connection, namespace)
    await connection.workflowService.describeNamespace({ namespace })
    await addMissingSearchAttributes(connection, namespace)
    return (await missingSearchAttributes(connection, namespace)).length === 0
  })
}

async function createNamespace({ workflowService }: Services, namespace: string): Promise<void> {
  try {
    await workflowService.describeNamespace({ namespace })
  } catch (error) {
    if (!hasGrpcStatus(error, 'NOT_FOUND')) throw error
    await unlessThere(() =>
      workflowService.registerNamespace({
        namespace,
        description: 'VM backups by Holdfast',
        workflowExecutionRetentionPeriod: msToTs(NAMESPACE_RETENTION_MS),
      }),
    )
  }
}

async function addMissingSearchAttributes(connection: Services, namespace: string): Promise<void> {
  const missing = await missingSearchAttributes(connection, namespace)
  if (missing.length === 0) return
  const searchAttributes = Object.fromEntries(missing.map((name) => [name, KEYWORD]))
  await unlessThere(() => connection.operatorService.addSearchAttributes({ namespace, searchAttributes }))
}

async function missingSearchAttributes({ operatorService }: Services, namespace: string): Promise<string[]> {
  const { customAttributes } = await operatorService.listSearchAttributes({ namespace })
  return searchAttributeKeys.map((key) => key.name).filter((name) => !Object.hasOwn(customAttributes ?? {}, name))
}

/** Repeats `attempt` until it says yes. NOT_FOUND and UNAVAILABLE are what a server says while its caches or itself come up. */
async function untilReady(namespace: string, deadline: number, attempt: () => Promise<boolean>): Promise<void> {
  for (;;) {
    let cause: unknown
    try {
      if (await attempt()) return
    } catch (error) {
      if (!hasGrpcStatus(error, 'NOT_FOUND', 'UNAVAILABLE', 'DEADLINE_EXCEEDED')) throw error
      cause = error
    }
    if (Date.now() > deadline) {
      const message = `Temporal did not get namespace "${namespace}" ready within ${VISIBLE_WITHIN_MS / 1000} s; look at the server's log.`
      throw new HoldfastError('ORCHESTRATOR_UNAVAILABLE', message, { cause })
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** Runs `create`; that another process was faster is as good: what we wanted is there. */
async function unlessThere(create: () => Promise<unknown>): Promise<void> {
  try {
    await create()
  } catch (error) {
    if (!hasGrpcStatus(error, 'ALREADY_EXISTS')) throw error
  }
}
