/**
 * What the Temporal Web UI can filter Holdfast's workflows by. They are stored in clear and indexed: ids and states only.
 * `temporal/search-attributes.ts` registers them on a server.
 */
import { defineSearchAttributeKey } from '@temporalio/common'
import type { SearchAttributePair } from '@temporalio/common'

/** Where the work stands; the only attribute that changes while a workflow runs. */
export type WorkflowState = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled'

/** The product's verb: `backup`, `backup-disk`, `verify`, `restore`, `delete`, `register-vm` … */
export const kindKey = defineSearchAttributeKey('HoldfastKind', 'KEYWORD')
export const vmKey = defineSearchAttributeKey('HoldfastVmId', 'KEYWORD')
export const repositoryKey = defineSearchAttributeKey('HoldfastRepositoryId', 'KEYWORD')
export const hostKey = defineSearchAttributeKey('HoldfastHostId', 'KEYWORD')
export const backupKey = defineSearchAttributeKey('HoldfastBackupId', 'KEYWORD')
export const stateKey = defineSearchAttributeKey('HoldfastState', 'KEYWORD')

/** All of them, as a server must know them. */
export const searchAttributeKeys = [kindKey, vmKey, repositoryKey, hostKey, backupKey, stateKey] as const

/** What one workflow is about; absent parts are not set. */
export interface WorkAbout {
  kind: string
  vmContextId?: string
  repositoryId?: string
  hostId?: string
  backupId?: string
  state?: WorkflowState
}

/** The same facts as pairs for `typedSearchAttributes`. */
export function searchAttributesFor(about: WorkAbout): SearchAttributePair[] {
  const facts = [
    { key: kindKey, value: about.kind },
    { key: vmKey, value: about.vmContextId },
    { key: repositoryKey, value: about.repositoryId },
    { key: hostKey, value: about.hostId },
    { key: backupKey, value: about.backupId },
    { key: stateKey, value: about.state },
  ]
  return facts.flatMap(({ key, value }) => (value === undefined ? [] : [{ key, value }]))
}
