/** The product's verbs as calls to Temporal. */
import { setTimeout as delay } from 'node:timers/promises'
import { WorkflowExecutionAlreadyStartedError, WorkflowIdConflictPolicy, WorkflowNotFoundError } from '@temporalio/client'
import type { Client } from '@temporalio/client'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { ParkingLooks } from '../domain/parking.ts'
import type { Attestation } from '../domain/immutability.ts'
import type { MountState } from '../hosting/hosted-repository.ts'
import type { PlatformInfo, VmDescription } from '../sources/source.ts'
import { kindKey } from '../workflows/search-attributes.ts'
import { admitWithin } from './admitted-start.ts'
import { describeWorkflow, promptly, within } from './client-calls.ts'
import { isOutOfReach, toHoldfastError } from './client-failures.ts'
import { extendMount, openMount, releaseMount } from './mount-operations.ts'
import type {
  BackupAdmission,
  Discovery,
  Operations,
  RemovedRepository,
  RepositoryFindings,
  StartBackupRequest,
  StorageRefresh,
} from './operations.ts'
import { backupOf, beginning } from './workflow-starts.ts'
import type { WorkflowStart } from './workflow-starts.ts'
import { restoreWorkflowId, vmChainWorkflowId } from './workflow-ids.ts'

export interface OperationsOptions {
  /** Goes into every workflow: how long a mover may be silent. */
  heartbeatTimeoutMs?: number
  /** Goes into every backup: how often its repository is looked at while it is parked. */
  parkingLooks?: ParkingLooks
  /** How long a caller waits for the decision about its backup or restore. */
  admissionDeadlineMs?: number
  /** How long a caller waits for a disk to be mounted. */
  mountDeadlineMs?: number
  /** How long a caller waits for a short verb to end. */
  answerDeadlineMs?: number
}

/** Whatever a request needs, a server that is there says within this that it is. */
const REACHABLE_WITHIN_MS = 4_000
/** What a workflow takes to close after its last step, on a busy machine. */
const CLOSING_MS = 1_000
/** After a wait for a result that was cut short. */
const ASK_AGAIN_MS = 250

/** Opens nothing: the client connects with the first request, and closing it is the caller's. */
export function createOperations(client: Client, options: OperationsOptions = {}): Operations {
  const {
    heartbeatTimeoutMs = 30_000,
    admissionDeadlineMs = 10_000,
    mountDeadlineMs = 60_000,
    answerDeadlineMs = 90_000,
  } = options
  const starts = beginning(heartbeatTimeoutMs, options.parkingLooks)
  const ask = <T>(question: () => Promise<T>): Promise<T> => reaching(client, question)

  return {
    startBackup: (request) => ask(() => startBackup(client, starts.backup(request), request, admissionDeadlineMs)),
    cancelBackup: (vmContextId, backupId) => ask(() => cancelBackup(client, vmContextId, backupId)),
    verifyBackup: (backupId, repositoryId) => ask(() => joinOrStart(client, starts.verification(backupId, repositoryId))),
    async deleteBackup(vmContextId, backupId) {
      await ask(() =>
        runToEnd(client, starts.deletion(vmContextId, backupId), answerDeadlineMs).catch(vmBusy(client, vmContextId)),
      )
    },
    async restoreDisk(request) {
      await ask(() => admitWithin<null>(client, starts.restore(request), admissionDeadlineMs))
    },
    async restoreVm(request) {
      await ask(() => admitWithin<null>(client, starts.vmRestore(request), admissionDeadlineMs))
    },
    cancelRestore: (restoreId) => ask(() => cancelRestore(client, restoreId)),
    openMount: (request) => ask(() => openMount(client, request.mountId, starts.mount(request), mountDeadlineMs)),
    extendMount: (mountId) => ask(() => extendMount(client, mountId, answerDeadlineMs)),
    releaseMount: (mountId) => ask(() => releaseMount(client, mountId, answerDeadlineMs)),
    registerVm: (request) => ask(() => runToEnd<VmDescription>(client, starts.vmRegistration(request), answerDeadlineMs)),
    registerRepository: (request) =>
      ask(() => joinToEnd<RepositoryFindings>(client, starts.repositoryRegistration(request), answerDeadlineMs)),
    testRepository: (request) =>
      ask(() => runToEnd<RepositoryFindings>(client, starts.repositoryTest(request), answerDeadlineMs)),
    changeRepository: (request) =>
      ask(() => runToEnd(client, starts.repositoryChange(request), answerDeadlineMs).catch(repositoryBusy(request.repositoryId))),
    deleteRepository: (repository, options) =>
      ask(() =>
        runToEnd<RemovedRepository>(client, starts.repositoryDeletion(repository, options), answerDeadlineMs).catch(
          repositoryBusy(repository.repositoryId),
        ),
      ),
    refreshStorage: () => ask(() => joinToEnd<StorageRefresh>(client, starts.storageRefresh(), answerDeadlineMs)),
    lookAtRepository: (repository) =>
      ask(() => joinToEnd<StorageRefresh>(client, starts.repositoryLook(repository), answerDeadlineMs)),
    mountRepository: (repository) =>
      ask(() =>
        runToEnd<MountState>(client, starts.repositoryMount(repository), answerDeadlineMs).catch(
          repositoryBusy(repository.repositoryId),
        ),
      ),
    unmountRepository: (repository, options) =>
      ask(() =>
        runToEnd<MountState>(client, starts.repositoryUnmount(repository, options), answerDeadlineMs).catch(
          repositoryBusy(repository.repositoryId),
        ),
      ),
    async attestLocks(repository) {
      const start = starts.lockAttestation(repository)
      const [attested] = await ask(() => joinToEnd<{ attestation: Attestation }[]>(client, start, answerDeadlineMs))
      return attested?.attestation ?? { checked: 0, broken: [] }
    },
    registerSource: (request) => ask(() => joinToEnd<PlatformInfo>(client, starts.sourceRegistration(request), answerDeadlineMs)),
    changeSource: (request) =>
      ask(() =>
        runToEnd<PlatformInfo>(client, starts.sourceChange(request), answerDeadlineMs).catch(sourceBusy(request.sourceId)),
      ),
    testSource: (source) => ask(() => joinToEnd<PlatformInfo>(client, starts.sourceTest(source), answerDeadlineMs)),
    discoverVms: (source) => ask(() => joinToEnd<Discovery>(client, starts.discovery(source), answerDeadlineMs)),
    healthy: () => isReachable(client),
  }
}

/** Asks only a server that answers, so that its absence is known within seconds whatever the request's own deadline is. */
async function reaching<T>(client: Client, question: () => Promise<T>): Promise<T> {
  try {
    await promptly(REACHABLE_WITHIN_MS, client.workflowService.getSystemInfo({}))
    return await question()
  } catch (error) {
    throw toHoldfastError(error)
  }
}

async function isReachable(client: Client): Promise<boolean> {
  try {
    const { namespace } = client.options
    await promptly(REACHABLE_WITHIN_MS, client.workflowService.describeNamespace({ namespace }))
    return true
  } catch {
    // The question is whether it answers; how it fails to is in nobody's interest here.
    return false
  }
}

/** Waits for the decision. Without one in time the backup goes on by itself: `decided` is false. */
async function startBackup(
  client: Client,
  start: WorkflowStart,
  request: StartBackupRequest,
  deadlineMs: number,
): Promise<BackupAdmission> {
  const admission = await onceFree(() => admitWithin<BackupAdmission>(client, start, deadlineMs)).catch(
    vmBusy(client, request.vmContextId),
  )
  return admission ?? undecided(request)
}

function undecided({ backupId, backupType }: StartBackupRequest): BackupAdmission {
  return {
    backupId,
    backupType,
    fullReason: null,
    fullReasonDetail: null,
    parentBackupId: null,
    estimatedSizeBytes: 0,
    decided: false,
  }
}

/** A backup's row says how it ended a moment before its workflow has closed; who saw that and comes at once is not turned away. */
async function onceFree<T>(start: () => Promise<T>): Promise<T> {
  for (const deadline = Date.now() + CLOSING_MS; ;) {
    try {
      return await start()
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError) || Date.now() > deadline) throw error
    }
    await delay(CLOSING_MS / 10)
  }
}

/** Turns "this id runs already" into who holds the VM's chain. */
function vmBusy(client: Client, vmContextId: string): (error: unknown) => Promise<never> {
  return async (error) => {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
    const holder = await describeWorkflow(client, vmChainWorkflowId(vmContextId))
    const backupId = holder && backupOf(holder)
    const details: JsonObject = { vm_context_id: vmContextId }
    if (holder) details['workflow_type'] = holder.type
    if (backupId !== undefined) details['backup_id'] = backupId
    const what = holder ? `${holder.typedSearchAttributes.get(kindKey) ?? holder.type} ${backupId ?? ''}`.trim() : 'other work'
    throw new HoldfastError('VM_BUSY', `This VM's chain is in use (${what}). Wait until that has ended, or cancel it.`, {
      details,
      cause: error,
    })
  }
}

async function cancelBackup(client: Client, vmContextId: string, backupId: string): Promise<void> {
  const workflowId = vmChainWorkflowId(vmContextId)
  const found = await describeWorkflow(client, workflowId)
  const isThisBackup = found?.type === 'backupVm' && backupOf(found) === backupId
  const notRunning = new HoldfastError('BACKUP_NOT_RUNNING', `Backup ${backupId} is not running (any more).`, {
    details: { backup_id: backupId },
  })
  if (!isThisBackup || found.status.name !== 'RUNNING') throw notRunning
  // With the run's id: a backup that began in between is another run and must not be hit.
  await within(client, () => client.workflow.getHandle(workflowId, found.runId).cancel()).catch(unlessEnded(notRunning))
}

async function cancelRestore(client: Client, restoreId: string): Promise<void> {
  const notRunning = new HoldfastError('RESTORE_NOT_RUNNING', `Restore ${restoreId} is not running (any more).`, {
    details: { restore_id: restoreId },
  })
  const found = await describeWorkflow(client, restoreWorkflowId(restoreId))
  if (found?.status.name !== 'RUNNING') throw notRunning
  await within(client, () => client.workflow.getHandle(found.workflowId, found.runId).cancel()).catch(unlessEnded(notRunning))
}

function unlessEnded(notRunning: HoldfastError): (error: unknown) => never {
  return (error) => {
    throw error instanceof WorkflowNotFoundError ? notRunning : error
  }
}

async function joinOrStart(client: Client, start: WorkflowStart): Promise<{ workflowId: string }> {
  const { workflowType, ...options } = start
  const workflowIdConflictPolicy = WorkflowIdConflictPolicy.USE_EXISTING
  const handle = await within(client, () => client.workflow.start(workflowType, { ...options, workflowIdConflictPolicy }))
  return { workflowId: handle.workflowId }
}

function sourceBusy(sourceId: string): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
    throw new HoldfastError('SOURCE_BUSY', 'This source is being changed just now: try again when that has ended.', {
      details: { source_id: sourceId },
      cause: error,
    })
  }
}

function repositoryBusy(repositoryId: string): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error
    throw new HoldfastError('REPO_BUSY', 'This repository is being changed just now: try again when that has ended.', {
      details: { repository_id: repositoryId },
      cause: error,
    })
  }
}

/** As {@link runToEnd}; when the work runs already, waits for that. */
function joinToEnd<T>(client: Client, start: WorkflowStart, deadlineMs: number): Promise<T> {
  return runToEnd<T>(client, start, deadlineMs, WorkflowIdConflictPolicy.USE_EXISTING)
}

/**
 * Runs a short workflow and waits for its result. When it does not end in time, Temporal is asked which of the two is silent:
 * `MOVER_UNAVAILABLE` (the workflow may still end later) or `ORCHESTRATOR_UNAVAILABLE`.
 */
async function runToEnd<T = void>(
  client: Client,
  start: WorkflowStart,
  deadlineMs: number,
  workflowIdConflictPolicy: WorkflowIdConflictPolicy = WorkflowIdConflictPolicy.FAIL,
): Promise<T> {
  const { workflowType, ...options } = start
  const handle = await within(client, () => client.workflow.start(workflowType, { ...options, workflowIdConflictPolicy }))
  const deadline = Date.now() + deadlineMs
  for (;;) {
    try {
      return await client.withDeadline<T>(deadline, () => handle.result())
    } catch (error) {
      // The end of a call's time looks like a server that is away, and comes a moment before our own clock or after it.
      if (!isOutOfReach(error)) throw error
      const found = await describeWorkflow(client, handle.workflowId)
      if (found?.status.name !== 'RUNNING') return await within<T>(client, () => handle.result())
      const leftMs = deadline - Date.now()
      if (leftMs > ASK_AGAIN_MS) {
        await delay(ASK_AGAIN_MS)
        continue
      }
      throw new HoldfastError(
        'MOVER_UNAVAILABLE',
        `"${handle.workflowId}" has not ended within ${deadlineMs / 1000} s; it goes on by itself.`,
        { details: { workflow_id: handle.workflowId }, cause: error },
      )
    }
  }
}
