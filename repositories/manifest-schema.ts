/** What a valid manifest is: member by member, and between members. */
import { z } from 'zod'
import { fullReasons, warningCodes } from '../domain/backup.ts'
import { isBackupId } from '../domain/ids.ts'
import { MANIFEST_FORMAT, MANIFEST_VERSION } from '../domain/manifest.ts'
import type { Manifest, ManifestDisk } from '../domain/manifest.ts'

/** More than any platform attaches to one VM; a limit so that a hostile file cannot make us allocate without end. */
const DISKS_MAX = 1024

const sizeBytes = z.int().nonnegative()
const text = z.string().max(4096)
const backupId = z.string().refine(isBackupId, 'not a backup id')
const backupType = z.enum(['full', 'incremental'])
const fullReason = z.enum(fullReasons).nullable()
const instant = z.iso.datetime({ offset: false })

const disk = z.strictObject({
  index: z.int().nonnegative().max(9999),
  key: text.min(1),
  label: text,
  size_bytes: sizeBytes,
  backup_type: backupType,
  full_reason: fullReason,
  file: text,
  file_size_bytes: sizeBytes,
  backing_file: text.nullable(),
  blocks_file: text,
  blocks_sha256: z.string().regex(/^[0-9a-f]{64}$/, 'not a SHA-256 in hex'),
  change_id: text.nullable(),
  written_bytes: sizeBytes,
})

const members = z.strictObject({
  format: z.literal(MANIFEST_FORMAT),
  format_version: z.literal(MANIFEST_VERSION),
  backup_id: backupId,
  vm: z.strictObject({
    context_id: text.min(1),
    name: text,
    source_type: z.enum(['disk-image', 'libvirt', 'vsphere']),
    config: z.record(z.string(), z.json()),
  }),
  backup_type: backupType,
  full_reason: fullReason,
  parent_backup_id: backupId.nullable(),
  snapshot_at: instant,
  published_at: instant,
  consistency: z.enum(['application', 'filesystem', 'crash']),
  consistency_reason: text,
  warnings: z.array(z.strictObject({ code: z.enum(warningCodes), disk: text.nullable(), message: text })).max(DISKS_MAX),
  compression: z.enum(['zstd', 'none']),
  disks: z.array(disk).min(1).max(DISKS_MAX),
  versions: z.strictObject({ holdfast: text, qemu: text }),
}) satisfies z.ZodType<Manifest>

/** The manifest in `value`, or what is wrong with it, for people. */
export function checkManifest(value: unknown): { manifest: Manifest } | { fault: string } {
  const parsed = members.safeParse(value)
  if (!parsed.success) return { fault: describeFirstIssue(parsed.error) }
  const manifest = parsed.data
  const fault = backupFault(manifest) ?? firstFault(manifest.disks, (disk) => diskFault(disk, manifest))
  return fault === null ? { manifest } : { fault }
}

function describeFirstIssue(error: z.ZodError): string {
  const issue = error.issues[0]
  return issue ? `${issue.path.join('.') || 'manifest'}: ${issue.message}` : 'not a manifest'
}

function backupFault(manifest: Manifest): string | null {
  const full = manifest.backup_type === 'full'
  if (full !== (manifest.parent_backup_id === null)) return 'parent_backup_id: a full has none, an incremental has one'
  if (full !== (manifest.full_reason !== null)) return 'full_reason: a full has one, an incremental has none'
  if (manifest.parent_backup_id === manifest.backup_id) return 'parent_backup_id: names the backup itself'
  if (!areDistinct(manifest.disks.map((disk) => disk.index))) return 'disks: two have the same index'
  if (!areDistinct(manifest.disks.map((disk) => disk.key))) return 'disks: two have the same key'
  return null
}

function diskFault(disk: ManifestDisk, manifest: Manifest): string | null {
  const at = `disks.${disk.index}`
  const full = disk.backup_type === 'full'
  if (!full && manifest.backup_type === 'full') return `${at}.backup_type: an incremental disk in a full backup`
  if (full !== (disk.full_reason !== null)) return `${at}.full_reason: a full has one, an incremental has none`
  // The names are not chosen but given by the index: nothing in the file can point elsewhere.
  if (disk.file !== `disk-${disk.index}.qcow2`) return `${at}.file: must be disk-${disk.index}.qcow2`
  if (disk.blocks_file !== `disk-${disk.index}.blocks`) return `${at}.blocks_file: must be disk-${disk.index}.blocks`
  if (full !== (disk.backing_file === null)) return `${at}.backing_file: a full has none, an incremental has one`
  if (disk.backing_file !== null && parentDiskIndex(disk, manifest.parent_backup_id) === null) {
    return `${at}.backing_file: must be a disk of the parent, ../${manifest.parent_backup_id}/disk-<n>.qcow2`
  }
  return null
}

/** Index of the parent's disk that `disk` continues; `null` for a full disk or a name that does not lie in the parent's folder. */
export function parentDiskIndex(disk: ManifestDisk, parentBackupId: string | null): number | null {
  const name = /^\.\.\/([^/]+)\/disk-(0|[1-9]\d{0,3})\.qcow2$/.exec(disk.backing_file ?? '')
  return name && name[1] === parentBackupId ? Number(name[2]) : null
}

function areDistinct(values: readonly (number | string)[]): boolean {
  return new Set(values).size === values.length
}

function firstFault<T>(items: readonly T[], faultOf: (item: T) => string | null): string | null {
  for (const item of items) {
    const fault = faultOf(item)
    if (fault !== null) return fault
  }
  return null
}
