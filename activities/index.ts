/** All steps, put together per kind of worker. Workflows see these types only. */
import type { Catalog } from '../db/client.ts'
import { createAdmissionActivities } from './admission.ts'
import type { AdmissionActivities } from './admission.ts'
import { createBackupLockActivities } from './backup-locks.ts'
import type { BackupLockActivities } from './backup-locks.ts'
import { createBackupRecordActivities } from './backup-records.ts'
import type { BackupRecordActivities } from './backup-records.ts'
import { createDeletionActivities } from './deletion.ts'
import type { DeletionActivities } from './deletion.ts'
import type { HostDependencies } from './host-dependencies.ts'
import { createHostReconciliationActivities } from './host-reconciliation.ts'
import type { HostReconciliationActivities } from './host-reconciliation.ts'
import { createLockAttestationActivities, createLockRecordActivities } from './lock-attestation.ts'
import type { LockAttestationActivities, LockRecordActivities } from './lock-attestation.ts'
import { createParkingActivities, createParkingRecordActivities } from './parking.ts'
import type { ParkingActivities, ParkingRecordActivities } from './parking.ts'
import { createPinActivities } from './pins.ts'
import type { PinActivities } from './pins.ts'
import { createPublicationActivities } from './publication.ts'
import type { PublicationActivities } from './publication.ts'
import { createReconciliationActivities } from './reconciliation.ts'
import type { ReconciliationActivities } from './reconciliation.ts'
import { createInspectionActivities, createRegistrationActivities } from './registration.ts'
import type { InspectionActivities, RegistrationActivities } from './registration.ts'
import { createRepositoryPlaceActivities } from './repository-places.ts'
import type { RepositoryPlaceActivities } from './repository-places.ts'
import { createRepositoryRecordActivities } from './repository-records.ts'
import type { RepositoryRecordActivities } from './repository-records.ts'
import { createRestoreMountRecordActivities } from './restore-mount-records.ts'
import type { RestoreMountRecordActivities } from './restore-mount-records.ts'
import { createRestoreMountActivities } from './restore-mounts.ts'
import type { RestoreMountActivities } from './restore-mounts.ts'
import { createRestoreActivities, createRestoreRecordActivities } from './restores.ts'
import type { RestoreActivities, RestoreRecordActivities } from './restores.ts'
import type { RunningWorkflows } from './running-workflows.ts'
import { createSnapshotActivities } from './snapshots.ts'
import type { SnapshotActivities } from './snapshots.ts'
import { createSourceDiscoveryActivities } from './source-discovery.ts'
import type { SourceDiscoveryActivities } from './source-discovery.ts'
import { createSourceOrphanActivities } from './source-orphans.ts'
import type { SourceOrphanActivities } from './source-orphans.ts'
import { createSourceRecordActivities } from './source-records.ts'
import type { SourceRecordActivities } from './source-records.ts'
import { createStorageMonitoringActivities } from './storage-monitoring.ts'
import type { StorageMonitoringActivities } from './storage-monitoring.ts'
import { createVerificationActivities, createVerificationRecordActivities } from './verification.ts'
import type { VerificationActivities, VerificationRecordActivities } from './verification.ts'
import { createVmRestoreActivities, createVmRestoreRecordActivities } from './vm-restores.ts'
import type { VmRestoreActivities, VmRestoreRecordActivities } from './vm-restores.ts'

/** Steps that need only the catalog (queue `control`). */
export type ControlActivities = BackupRecordActivities &
  LockRecordActivities &
  ParkingRecordActivities &
  PinActivities &
  RegistrationActivities &
  RepositoryRecordActivities &
  RestoreRecordActivities &
  RestoreMountRecordActivities &
  SourceRecordActivities &
  StorageMonitoringActivities &
  VerificationRecordActivities &
  VmRestoreRecordActivities &
  ReconciliationActivities

/** Steps on a data host (queue `host.<hostId>`), all but transfers and the holding of mounts, which have queues of their own. */
export type HostActivities = AdmissionActivities &
  SnapshotActivities &
  PublicationActivities &
  ParkingActivities &
  VerificationActivities &
  RestoreActivities &
  RestoreMountActivities &
  VmRestoreActivities &
  DeletionActivities &
  BackupLockActivities &
  LockAttestationActivities &
  InspectionActivities &
  RepositoryPlaceActivities &
  SourceDiscoveryActivities &
  SourceOrphanActivities &
  HostReconciliationActivities

export interface ControlDependencies {
  catalog: Catalog
  workflows: RunningWorkflows
}

export function createControlActivities(dependencies: ControlDependencies): ControlActivities {
  return {
    ...createBackupRecordActivities(dependencies),
    ...createParkingRecordActivities(dependencies),
    ...createLockRecordActivities(dependencies),
    ...createPinActivities(dependencies),
    ...createRegistrationActivities(dependencies),
    ...createRepositoryRecordActivities(dependencies),
    ...createRestoreRecordActivities(dependencies),
    ...createRestoreMountRecordActivities(dependencies),
    ...createSourceRecordActivities(dependencies),
    ...createStorageMonitoringActivities(dependencies),
    ...createVerificationRecordActivities(dependencies),
    ...createVmRestoreRecordActivities(dependencies),
    ...createReconciliationActivities(dependencies),
  }
}

/** `homeRunFolder`: where the run folders of all this host's mover processes lie. */
export function createHostActivities(dependencies: HostDependencies & { homeRunFolder: string }): HostActivities {
  return {
    ...createAdmissionActivities(dependencies),
    ...createSnapshotActivities(dependencies),
    ...createPublicationActivities(dependencies),
    ...createParkingActivities(dependencies),
    ...createVerificationActivities(dependencies),
    ...createRestoreActivities(dependencies),
    ...createRestoreMountActivities(dependencies),
    ...createVmRestoreActivities(dependencies),
    ...createDeletionActivities(dependencies),
    ...createBackupLockActivities(dependencies),
    ...createLockAttestationActivities(dependencies),
    ...createInspectionActivities(dependencies),
    ...createRepositoryPlaceActivities(dependencies),
    ...createSourceDiscoveryActivities(dependencies),
    ...createSourceOrphanActivities(dependencies),
    ...createHostReconciliationActivities(dependencies),
  }
}
