/**
 * Operations that remember what they were asked and answer what a test says. Only for tests of the API's own doing; the real ones
 * are tested against Temporal, and `api/` has tests with them too.
 */
import type { Operations } from '../temporal/operations.ts'

export interface RecordingOperations extends Operations {
  /** Every call, in order. */
  readonly calls: { verb: keyof Operations; args: unknown[] }[]
  /** Replaces what some verbs do, until {@link reset}. */
  answer(acts: Partial<Operations>): void
  /** Forgets calls and replacements. */
  reset(): void
}

const space = { totalBytes: 1000, usedBytes: 400, availableBytes: 600, totalInodes: 0, usedInodes: 0, writable: true }

const platform = { version: 'QEMU 7.2.0, libvirt 9.0.0', hostname: 'kvm-1', warnings: [] }

const usual: Operations = {
  startBackup: async (request) => ({
    backupId: request.backupId,
    backupType: request.backupType,
    fullReason: request.backupType === 'full' ? 'requested' : null,
    fullReasonDetail: request.backupType === 'full' ? 'a full was asked for' : null,
    parentBackupId: null,
    estimatedSizeBytes: 123_456,
    decided: true,
  }),
  cancelBackup: async () => undefined,
  verifyBackup: async (backupId, repositoryId) => ({ workflowId: `verify:${backupId}:${repositoryId}` }),
  deleteBackup: async () => undefined,
  restoreDisk: async () => undefined,
  restoreVm: async () => undefined,
  cancelRestore: async () => undefined,
  openMount: async () => undefined,
  extendMount: async () => ({ expiresAt: '2026-03-01T13:00:00.000Z' }),
  releaseMount: async () => undefined,
  registerVm: async () => ({
    powerState: 'off',
    cpuCount: null,
    memoryMb: null,
    osType: null,
    warnings: [],
    disks: [{ index: 0, key: '/images/a.raw', label: 'a.raw', format: 'raw', sizeBytes: 1024 ** 3, dataBytes: 1024 ** 2 }],
  }),
  registerRepository: async () => ({ storage: space, enforcement: null }),
  testRepository: async () => ({ storage: space, enforcement: null }),
  changeRepository: async () => undefined,
  deleteRepository: async () => ({ cleared: true }),
  refreshStorage: async () => ({ refreshedCount: 0, failedCount: 0, offline: [] }),
  lookAtRepository: async () => ({ refreshedCount: 1, failedCount: 0, offline: [] }),
  mountRepository: async () => ({ mounted: true, mountPoint: '/mounts/x', source: 'nas:/x', fileSystem: 'nfs4' }),
  unmountRepository: async () => ({ mounted: false, reason: null }),
  attestLocks: async () => ({ checked: 0, broken: [] }),
  registerSource: async () => platform,
  changeSource: async () => platform,
  testSource: async () => platform,
  discoverVms: async () => ({ found: 0, added: 0, updated: 0, vanished: 0, problems: [], problemCount: 0 }),
  healthy: async () => true,
}

export function createRecordingOperations(): RecordingOperations {
  const calls: RecordingOperations['calls'] = []
  let acts: Operations = usual
  const record = (verb: keyof Operations, ...args: unknown[]): void => void calls.push({ verb, args })
  return {
    calls,
    answer: (replaced) => void (acts = { ...acts, ...replaced }),
    reset: () => {
      calls.length = 0
      acts = usual
    },
    startBackup: (request) => (record('startBackup', request), acts.startBackup(request)),
    cancelBackup: (contextId, id) => (record('cancelBackup', contextId, id), acts.cancelBackup(contextId, id)),
    verifyBackup: (id, repositoryId) => (record('verifyBackup', id, repositoryId), acts.verifyBackup(id, repositoryId)),
    deleteBackup: (contextId, id) => (record('deleteBackup', contextId, id), acts.deleteBackup(contextId, id)),
    restoreDisk: (request) => (record('restoreDisk', request), acts.restoreDisk(request)),
    restoreVm: (request) => (record('restoreVm', request), acts.restoreVm(request)),
    cancelRestore: (id) => (record('cancelRestore', id), acts.cancelRestore(id)),
    openMount: (request) => (record('openMount', request), acts.openMount(request)),
    extendMount: (id) => (record('extendMount', id), acts.extendMount(id)),
    releaseMount: (id) => (record('releaseMount', id), acts.releaseMount(id)),
    registerVm: (request) => (record('registerVm', request), acts.registerVm(request)),
    registerRepository: (request) => (record('registerRepository', request), acts.registerRepository(request)),
    testRepository: (request) => (record('testRepository', request), acts.testRepository(request)),
    changeRepository: (request) => (record('changeRepository', request), acts.changeRepository(request)),
    deleteRepository: (repository, options) => (
      record('deleteRepository', repository, options),
      acts.deleteRepository(repository, options)
    ),
    refreshStorage: () => (record('refreshStorage'), acts.refreshStorage()),
    lookAtRepository: (repository) => (record('lookAtRepository', repository), acts.lookAtRepository(repository)),
    mountRepository: (repository) => (record('mountRepository', repository), acts.mountRepository(repository)),
    unmountRepository: (repository, options) => (
      record('unmountRepository', repository, options),
      acts.unmountRepository(repository, options)
    ),
    attestLocks: (repository) => (record('attestLocks', repository), acts.attestLocks(repository)),
    registerSource: (request) => (record('registerSource', request), acts.registerSource(request)),
    changeSource: (request) => (record('changeSource', request), acts.changeSource(request)),
    testSource: (source) => (record('testSource', source), acts.testSource(source)),
    discoverVms: (source) => (record('discoverVms', source), acts.discoverVms(source)),
    healthy: () => acts.healthy(),
  }
}
