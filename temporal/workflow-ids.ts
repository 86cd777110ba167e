/** Workflow ids. An id is a lock: two runs of one id never overlap, and the pairs that share an id exclude each other. */

/** The one writer of a VM's chain: `backupVm` and `deleteBackup` share it. */
export function vmChainWorkflowId(vmContextId: string): string {
  return `vm-chain:${vmContextId}`
}

/** One disk of a running backup, a child of {@link vmChainWorkflowId}. */
export function backupDiskWorkflowId(parentWorkflowId: string, backupId: string, diskIndex: number): string {
  return `${parentWorkflowId}/${backupId}/disk-${diskIndex}`
}

export function verifyWorkflowId(backupId: string, repositoryId: string): string {
  return `verify:${backupId}:${repositoryId}`
}

export function restoreWorkflowId(restoreId: string): string {
  return `restore:${restoreId}`
}

export function restoreMountWorkflowId(mountId: string): string {
  return `restore-mount:${mountId}`
}

export function registerVmWorkflowId(contextId: string): string {
  return `register-vm:${contextId}`
}

export function registerRepositoryWorkflowId(repositoryId: string): string {
  return `register-repository:${repositoryId}`
}

/** Looking at a place excludes nothing, so every look has its own id. `unique`: any text that differs from call to call. */
export function testRepositoryWorkflowId(repositoryId: string, unique: string): string {
  return `test-repository:${repositoryId}:${unique}`
}

/** One change of a repository at a time: changing, deleting, mounting and unmounting share it. */
export function changeRepositoryWorkflowId(repositoryId: string): string {
  return `change-repository:${repositoryId}`
}

/** A look at one repository's locks. */
export function attestLocksWorkflowId(repositoryId: string): string {
  return `attest-locks:${repositoryId}`
}

export function registerSourceWorkflowId(sourceId: string): string {
  return `register-source:${sourceId}`
}

/** One change of a source at a time. */
export function changeSourceWorkflowId(sourceId: string): string {
  return `change-source:${sourceId}`
}

export function testSourceWorkflowId(sourceId: string): string {
  return `test-source:${sourceId}`
}

export function discoverVmsWorkflowId(sourceId: string): string {
  return `discover:${sourceId}`
}

/** The schedule that looks at all repositories, and the prefix of the workflows it starts. */
export const STORAGE_MONITOR_SCHEDULE_ID = 'storage-monitor'

/** A look at all repositories that somebody asked for; whoever asks meanwhile waits for the same. */
export const REFRESH_STORAGE_WORKFLOW_ID = 'refresh-storage'

export function lookAtRepositoryWorkflowId(repositoryId: string): string {
  return `look-at-repository:${repositoryId}`
}

/** The schedule that looks at the locks of all repositories. */
export const LOCK_ATTESTATION_SCHEDULE_ID = 'lock-attestation'

/** The schedule that repairs what crashes left, and the prefix of the workflows it starts. */
export const RECONCILE_SCHEDULE_ID = 'reconcile'
