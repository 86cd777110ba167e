/** Which disks of a domain are backed up. */
import type { BackupWarning, WarningCode } from '../../domain/backup.ts'
import type { DomainDescription, DomainDisk } from './domain-xml.ts'

/** A disk of the domain that is backed up. */
export interface IncludedDisk {
  /** Position among the included disks. */
  index: number
  /** The guest's device, and the disk's key: `vda`. */
  target: string
  path: string
  format: string
  /** `file` or `block` */
  sourceType: string
  /** Whether the image can hold a record of changes. */
  keepsBitmaps: boolean
}

/** Pure: nothing is asked of anybody. Every disk that is not included has a warning. */
export function selectDisks(
  domain: DomainDescription,
  excluded: ReadonlySet<string>,
): { included: IncludedDisk[]; warnings: BackupWarning[] } {
  const included: IncludedDisk[] = []
  const warnings: BackupWarning[] = []
  for (const disk of domain.disks) {
    const reason = reasonToLeaveOut(disk, excluded)
    if (reason) {
      const [code, words] = reason
      warnings.push({ code, disk: disk.target, message: `Disk ${disk.target} is not backed up: ${words}` })
      continue
    }
    const { target, path, format, sourceType } = disk
    if (path === null) continue
    included.push({ index: included.length, target, path, format, sourceType, keepsBitmaps: format === 'qcow2' })
  }
  return { included, warnings }
}

function reasonToLeaveOut(disk: DomainDisk, excluded: ReadonlySet<string>): [WarningCode, string] | null {
  if (excluded.has(disk.target)) return ['disk_excluded', 'it is excluded in the configuration of this VM.']
  if (disk.device === 'cdrom' || disk.device === 'floppy')
    return ['disk_read_only', `it is a ${disk.device === 'cdrom' ? 'CD-ROM' : 'floppy'} drive.`]
  if (disk.readOnly) return ['disk_read_only', 'it is read-only, so it holds nothing of this VM alone.']
  if (disk.device !== 'disk') return ['disk_unsupported', `a device of type "${disk.device}" is passed through to the guest.`]
  if (disk.shareable) return ['disk_unsupported', 'other VMs write to it too ("shareable"), so no instant of it is consistent.']
  if (disk.transient) return ['disk_unsupported', 'what is written to it is thrown away when the VM stops ("transient").']
  if (disk.sourceType !== 'file' && disk.sourceType !== 'block')
    return [
      'disk_unsupported',
      `its content lies on a source of type "${disk.sourceType}"; files and block devices are supported.`,
    ]
  if (disk.path === null) return ['disk_unsupported', 'it has no image.']
  if (!/^\w{1,64}$/.test(disk.target)) return ['disk_unsupported', 'its target has a name that cannot be part of a file name.']
  if (disk.format !== 'qcow2' && disk.format !== 'raw')
    return ['disk_unsupported', `its format is "${disk.format}"; qcow2 and raw are supported.`]
  return null
}
