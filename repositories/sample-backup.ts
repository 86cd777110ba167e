/** A small, valid backup for tests: its manifest and the files that it names. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { backupIdFor, vmFolderName } from '../domain/ids.ts'
import { MANIFEST_FORMAT, MANIFEST_VERSION } from '../domain/manifest.ts'
import type { Manifest, ManifestDisk } from '../domain/manifest.ts'
import type { BackupReference, PublishedBackup, Repository } from './repository.ts'

const VM_NAME = 'Büro Server'
const CONTEXT_ID = 'ctx-01k9zq3v7m5t8w2x4y6z0a1b2c'
const FILE_CONTENT = 'stands for a disk'

export const sampleVmFolder = vmFolderName(VM_NAME, CONTEXT_ID)

/** `number` sets the clock: samples sort by it. */
export function sampleReference(number: number): BackupReference {
  const at = new Date(Date.UTC(2026, 0, 1, 0, number))
  return { vmFolder: sampleVmFolder, backupId: backupIdFor(VM_NAME, at, `abc${String(number).padStart(3, '0')}`) }
}

export function sampleManifest(reference: BackupReference, parent: BackupReference | null, disks = 2): Manifest {
  return {
    format: MANIFEST_FORMAT,
    format_version: MANIFEST_VERSION,
    backup_id: reference.backupId,
    vm: {
      context_id: CONTEXT_ID,
      name: VM_NAME,
      source_type: 'disk-image',
      config: { disks: [{ path: '/images/"a" disk.raw' }] },
    },
    backup_type: parent ? 'incremental' : 'full',
    full_reason: parent ? null : 'first_backup',
    parent_backup_id: parent?.backupId ?? null,
    snapshot_at: '2026-01-01T00:00:00.000Z',
    published_at: '2026-01-01T00:05:00.000Z',
    consistency: 'crash',
    warnings: [],
    consistency_reason: 'nobody wrote to the image files',
    compression: 'zstd',
    disks: Array.from({ length: disks }, (_, index) => sampleDisk(index, parent)),
    versions: { holdfast: '0.1.0', qemu: '7.2.22' },
  }
}

function sampleDisk(index: number, parent: BackupReference | null): ManifestDisk {
  return {
    index,
    key: `/images/disk-${index}.raw`,
    label: `disk ${index}`,
    size_bytes: 8 * 1024 ** 3,
    backup_type: parent ? 'incremental' : 'full',
    full_reason: parent ? null : 'first_backup',
    file: `disk-${index}.qcow2`,
    file_size_bytes: FILE_CONTENT.length,
    backing_file: parent ? `../${parent.backupId}/disk-${index}.qcow2` : null,
    blocks_file: `disk-${index}.blocks`,
    blocks_sha256: 'a'.repeat(64),
    change_id: null,
    written_bytes: 1024,
  }
}

/** Stages the files of the sample, with the journals that a transfer leaves. Returns the manifest to publish. */
export async function stageSample(
  repository: Repository,
  reference: BackupReference,
  parent: BackupReference | null = null,
): Promise<Manifest> {
  const staged = await repository.createBackup(reference)
  const manifest = sampleManifest(reference, parent)
  for (const disk of manifest.disks) {
    await writeFile(join(staged.folder, disk.file), FILE_CONTENT)
    await writeFile(join(staged.folder, disk.blocks_file), 'stands for hashes')
    await writeFile(join(staged.folder, `disk-${disk.index}.journal`), 'how far it got')
  }
  return manifest
}

export async function publishSample(
  repository: Repository,
  reference: BackupReference,
  parent: BackupReference | null = null,
): Promise<PublishedBackup> {
  return repository.publishBackup(reference, await stageSample(repository, reference, parent))
}
