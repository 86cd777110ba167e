/** How each verb's workflow is started: its id, its input, and what the Web UI shows of it. */
import { randomUUID } from 'node:crypto'
import type { WorkflowExecutionDescription } from '@temporalio/client'
import type { SearchAttributePair } from '@temporalio/common'
import type { ParkingLooks } from '../domain/parking.ts'
import { backupKey, searchAttributesFor } from '../workflows/search-attributes.ts'
import type { WorkAbout } from '../workflows/search-attributes.ts'
import type {
  ChangeRepositoryRequest,
  OpenMountRequest,
  RegisterRepositoryRequest,
  RegisterVmRequest,
  RepositoryOfHost,
  RestoreDiskRequest,
  RestoreVmRequest,
  SourceOfHost,
  SourceRequest,
  StartBackupRequest,
  TestRepositoryRequest,
} from './operations.ts'
import { CONTROL_QUEUE } from './task-queues.ts'
import {
  REFRESH_STORAGE_WORKFLOW_ID,
  changeRepositoryWorkflowId,
  attestLocksWorkflowId,
  changeSourceWorkflowId,
  discoverVmsWorkflowId,
  lookAtRepositoryWorkflowId,
  registerRepositoryWorkflowId,
  registerSourceWorkflowId,
  registerVmWorkflowId,
  restoreMountWorkflowId,
  restoreWorkflowId,
  testRepositoryWorkflowId,
  testSourceWorkflowId,
  verifyWorkflowId,
  vmChainWorkflowId,
} from './workflow-ids.ts'

/** Somebody waits: whether a mover runs is known sooner. */
const ASKED_PATIENCE_MS = 10_000

/** Everything `client.workflow.start` needs. */
export interface WorkflowStart {
  workflowType: string
  workflowId: string
  args: [object]
  taskQueue: string
  typedSearchAttributes: SearchAttributePair[]
  staticSummary: string
  /** Work that a person waits for ends by itself when nobody can do it. */
  workflowExecutionTimeout?: '10 minutes' | '1 hour'
}

/** One for each verb. */
export interface WorkflowStarts {
  backup(request: StartBackupRequest): WorkflowStart
  verification(backupId: string, repositoryId: string): WorkflowStart
  deletion(vmContextId: string, backupId: string): WorkflowStart
  restore(request: RestoreDiskRequest): WorkflowStart
  vmRestore(request: RestoreVmRequest): WorkflowStart
  mount(request: OpenMountRequest): WorkflowStart
  vmRegistration(request: RegisterVmRequest): WorkflowStart
  repositoryRegistration(request: RegisterRepositoryRequest): WorkflowStart
  repositoryTest(request: TestRepositoryRequest): WorkflowStart
  repositoryChange(request: ChangeRepositoryRequest): WorkflowStart
  repositoryDeletion(repository: RepositoryOfHost, options: { force: boolean }): WorkflowStart
  storageRefresh(): WorkflowStart
  repositoryLook(repository: RepositoryOfHost): WorkflowStart
  repositoryMount(repository: RepositoryOfHost): WorkflowStart
  repositoryUnmount(repository: RepositoryOfHost, options: { force: boolean }): WorkflowStart
  lockAttestation(repository: RepositoryOfHost): WorkflowStart
  sourceRegistration(request: SourceRequest): WorkflowStart
  sourceChange(request: SourceRequest): WorkflowStart
  sourceTest(source: SourceOfHost): WorkflowStart
  discovery(source: SourceOfHost): WorkflowStart
}

/** `heartbeatTimeoutMs` becomes part of every input. */
export function beginning(heartbeatTimeoutMs: number, parkingLooks?: ParkingLooks): WorkflowStarts {
  const start = (
    workflowType: string,
    workflowId: string,
    input: object,
    about: WorkAbout,
    staticSummary: string,
  ): WorkflowStart => ({
    workflowType,
    workflowId,
    args: [{ ...input, heartbeatTimeoutMs }],
    taskQueue: CONTROL_QUEUE,
    typedSearchAttributes: searchAttributesFor(about),
    staticSummary,
  })

  return {
    backup(request: StartBackupRequest): WorkflowStart {
      const { vmContextId, repositoryId, backupId } = request
      const about: WorkAbout = { kind: 'backup', vmContextId, repositoryId, backupId, state: 'pending' }
      const input = { ...request, ...(parkingLooks && { parkingLooks }) }
      return start('backupVm', vmChainWorkflowId(vmContextId), input, about, `Backup ${backupId}`)
    },
    verification(backupId: string, repositoryId: string): WorkflowStart {
      const id = verifyWorkflowId(backupId, repositoryId)
      return start('verifyBackup', id, { backupId }, { kind: 'verify', repositoryId, backupId }, `Verify ${backupId}`)
    },
    deletion(vmContextId: string, backupId: string): WorkflowStart {
      const about: WorkAbout = { kind: 'delete', vmContextId, backupId }
      return start('deleteBackup', vmChainWorkflowId(vmContextId), { backupId }, about, `Delete ${backupId}`)
    },
    restore(request: RestoreDiskRequest): WorkflowStart {
      const { restoreId, backupId, diskIndex } = request
      const summary = `Restore disk ${diskIndex} of ${backupId}`
      return start('restoreDisk', restoreWorkflowId(restoreId), request, { kind: 'restore', backupId }, summary)
    },
    vmRestore(request: RestoreVmRequest): WorkflowStart {
      const { restoreId, backupId, target } = request
      const vmContextId = target.type === 'original' ? target.vmContextId : undefined
      const about: WorkAbout = { kind: 'restore', backupId, ...(vmContextId !== undefined && { vmContextId }) }
      return start('restoreVm', restoreWorkflowId(restoreId), request, about, `Restore the VM of ${backupId}`)
    },
    mount(request: OpenMountRequest): WorkflowStart {
      const { mountId, backupId, diskIndex } = request
      const summary = `Mount disk ${diskIndex} of ${backupId}`
      return start('mountBackup', restoreMountWorkflowId(mountId), request, { kind: 'mount', backupId }, summary)
    },
    vmRegistration(request: RegisterVmRequest): WorkflowStart {
      const { contextId, hostId } = request
      const about: WorkAbout = { kind: 'register-vm', vmContextId: contextId, hostId }
      return short(start('registerVm', registerVmWorkflowId(contextId), request, about, 'Register a VM'))
    },
    repositoryRegistration(request: RegisterRepositoryRequest): WorkflowStart {
      const id = registerRepositoryWorkflowId(request.repositoryId)
      return short(
        start('registerRepository', id, request, aboutRepository('register-repository', request), 'Register a repository'),
      )
    },
    repositoryTest(request: TestRepositoryRequest): WorkflowStart {
      const id = testRepositoryWorkflowId(request.repositoryId, randomUUID())
      return short(start('testRepository', id, request, aboutRepository('test-repository', request), 'Look at a repository'))
    },
    repositoryChange(request: ChangeRepositoryRequest): WorkflowStart {
      const id = changeRepositoryWorkflowId(request.repositoryId)
      return short(start('changeRepository', id, request, aboutRepository('change-repository', request), 'Change a repository'))
    },
    repositoryDeletion(repository: RepositoryOfHost, { force }: { force: boolean }): WorkflowStart {
      const id = changeRepositoryWorkflowId(repository.repositoryId)
      const about = aboutRepository('delete-repository', repository)
      return short(start('deleteRepository', id, { ...repository, force }, about, 'Delete a repository'))
    },
    storageRefresh(): WorkflowStart {
      const [input, about] = [{ moverPatienceMs: ASKED_PATIENCE_MS }, { kind: 'monitor-storage' }]
      return short(start('monitorStorage', REFRESH_STORAGE_WORKFLOW_ID, input, about, 'Look at all repositories'))
    },
    repositoryLook(repository: RepositoryOfHost): WorkflowStart {
      const { repositoryId } = repository
      const [id, input] = [lookAtRepositoryWorkflowId(repositoryId), { repositoryId, moverPatienceMs: ASKED_PATIENCE_MS }]
      return short(start('monitorStorage', id, input, aboutRepository('monitor-storage', repository), 'Look at a repository'))
    },
    repositoryMount(repository: RepositoryOfHost): WorkflowStart {
      const id = changeRepositoryWorkflowId(repository.repositoryId)
      return short(
        start('mountRepository', id, repository, aboutRepository('mount-repository', repository), 'Mount a repository'),
      )
    },
    repositoryUnmount(repository: RepositoryOfHost, { force }: { force: boolean }): WorkflowStart {
      const id = changeRepositoryWorkflowId(repository.repositoryId)
      const about = aboutRepository('unmount-repository', repository)
      return short(start('unmountRepository', id, { ...repository, force }, about, 'Unmount a repository'))
    },
    lockAttestation(repository: RepositoryOfHost): WorkflowStart {
      const { repositoryId, hostId } = repository
      const about: WorkAbout = { kind: 'attest-locks', repositoryId, hostId }
      return {
        ...start(
          'attestLocks',
          attestLocksWorkflowId(repositoryId),
          { repository: { repositoryId, hostId } },
          about,
          'Look at locks',
        ),
        workflowExecutionTimeout: '1 hour',
      }
    },
    sourceRegistration(request: SourceRequest): WorkflowStart {
      const id = registerSourceWorkflowId(request.sourceId)
      return short(start('registerSource', id, request, aboutSource('register-source', request), 'Register a source'))
    },
    sourceChange(request: SourceRequest): WorkflowStart {
      const id = changeSourceWorkflowId(request.sourceId)
      return short(start('changeSource', id, request, aboutSource('change-source', request), 'Change a source'))
    },
    sourceTest(source: SourceOfHost): WorkflowStart {
      const id = testSourceWorkflowId(source.sourceId)
      return short(start('testSource', id, source, aboutSource('test-source', source), 'Look at a source'))
    },
    discovery(source: SourceOfHost): WorkflowStart {
      const id = discoverVmsWorkflowId(source.sourceId)
      const summary = 'Find the VMs of a source'
      return {
        ...start('discoverVms', id, source, aboutSource('discover', source), summary),
        workflowExecutionTimeout: '1 hour',
      }
    },
  }
}

function aboutRepository(kind: string, { repositoryId, hostId }: RepositoryOfHost): WorkAbout {
  return { kind, repositoryId, hostId }
}

function aboutSource(kind: string, { hostId }: SourceOfHost): WorkAbout {
  return { kind, hostId }
}

function short(start: WorkflowStart): WorkflowStart {
  return { ...start, workflowExecutionTimeout: '10 minutes' }
}

/** The backup that a workflow, started or about to be, works on. */
export function backupOf({ typedSearchAttributes }: WorkflowStart | WorkflowExecutionDescription): string | undefined {
  if (!Array.isArray(typedSearchAttributes)) return typedSearchAttributes.get(backupKey)
  const value = typedSearchAttributes.find(({ key }) => key.name === backupKey.name)?.value
  return typeof value === 'string' ? value : undefined
}
