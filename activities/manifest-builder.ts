/** The manifest of a backup whose disks are all copied. Pure: the same facts always give the same manifest. */
import { HoldfastError } from '../domain/errors.ts'
import { MANIFEST_FORMAT, MANIFEST_VERSION } from '../domain/manifest.ts'
import type { Manifest, ManifestDisk } from '../domain/manifest.ts'
import type { BackupWork } from '../db/queries/backup-records.ts'
import type { Snapshot } from '../sources/source.ts'
import type { DiskOutcome } from './transfers.ts'

export interface ManifestFacts {
  work: BackupWork
  snapshot: Snapshot
  outcomes: readonly DiskOutcome[]
  /** The parent's manifest; `null` for a full. */
  parent: Manifest | null
  publishedAt: string
  versions: Manifest['versions']
}

/** `INTERNAL` when a disk of the backup has no outcome: better no backup than one that lacks a disk. */
export function buildManifest(facts: ManifestFacts): Manifest {
  const { job, vm, disks } = facts.work
  const { snapshot } = facts
  return {
    format: MANIFEST_FORMAT,
    format_version: MANIFEST_VERSION,
    backup_id: job.id,
    vm: { context_id: vm.context_id, name: job.vm_name, source_type: vm.source_type, config: snapshot.vmConfig },
    backup_type: job.backup_type,
    full_reason: job.full_reason,
    parent_backup_id: job.parent_backup_id,
    snapshot_at: snapshot.takenAt,
    published_at: facts.publishedAt,
    consistency: snapshot.consistency,
    consistency_reason: snapshot.consistencyReason,
    warnings: [...job.warnings, ...snapshot.warnings],
    compression: job.compression,
    disks: disks.map((disk) => manifestDisk(disk, facts)),
    versions: facts.versions,
  }
}

function manifestDisk(disk: BackupWork['disks'][number], { snapshot, outcomes, parent }: ManifestFacts): ManifestDisk {
  const outcome = outcomes.find((candidate) => candidate.diskIndex === disk.disk_index)
  const frozen = snapshot.disks.find((candidate) => candidate.index === disk.disk_index)
  const parentDisk = disk.backup_type === 'full' ? null : parent?.disks.find((candidate) => candidate.key === disk.disk_key)
  if (!outcome || !frozen || parentDisk === undefined) {
    throw new HoldfastError(
      'INTERNAL',
      `Backup ${disk.backup_job_id} cannot be published: disk ${disk.disk_index} is incomplete.`,
    )
  }
  return {
    index: disk.disk_index,
    key: disk.disk_key,
    label: disk.label,
    size_bytes: disk.size_bytes,
    backup_type: disk.backup_type,
    full_reason: disk.full_reason,
    file: `disk-${disk.disk_index}.qcow2`,
    file_size_bytes: outcome.fileSizeBytes,
    backing_file: parentDisk === null ? null : `../${parent!.backup_id}/${parentDisk.file}`,
    blocks_file: `disk-${disk.disk_index}.blocks`,
    blocks_sha256: outcome.blocksSha256,
    change_id: frozen.changeId,
    written_bytes: outcome.writtenBytes,
  }
}
