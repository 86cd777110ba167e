/** The XML that begins a backup job (https://libvirt.org/formatbackup.html, formatcheckpoint.html). Pure. */
import { DOMImplementation, XMLSerializer, type Element } from '@xmldom/xmldom'
import { EXPORT_BITMAP } from './backup-job.ts'

export interface BackupXmlDisk {
  target: string
  /** `null`: the domain has the disk, and it is not backed up. */
  included: {
    exportName: string
    scratchPath: string
    /** A checkpoint: the export tells changes since then. */
    incrementalFrom: string | null
    /** Whether the checkpoint covers it, so that the next backup can be told changes. */
    keepsBitmaps: boolean
  } | null
}

/** Pull mode: QEMU serves the frozen disks on a socket of its host, and keeps what the guest overwrites in scratch files. */
export function backupXml(socketPath: string, disks: readonly BackupXmlDisk[]): string {
  const root = element(null, 'domainbackup', { mode: 'pull' })
  element(root, 'server', { transport: 'unix', socket: socketPath })
  const list = element(root, 'disks')
  for (const { target, included } of disks) {
    if (included === null) {
      element(list, 'disk', { name: target, backup: 'no' })
      continue
    }
    const { exportName, scratchPath, incrementalFrom } = included
    const disk = element(list, 'disk', { name: target, backup: 'yes', type: 'file', exportname: exportName })
    setAttributes(
      disk,
      incrementalFrom === null
        ? { backupmode: 'full' }
        : { backupmode: 'incremental', incremental: incrementalFrom, exportbitmap: EXPORT_BITMAP },
    )
    element(disk, 'driver', { type: 'qcow2' })
    element(disk, 'scratch', { file: scratchPath })
  }
  return new XMLSerializer().serializeToString(root)
}

/** `null` when no disk can record changes: then there is nothing to check against later. */
export function checkpointXml(name: string, description: string, disks: readonly BackupXmlDisk[]): string | null {
  const covers = ({ included }: BackupXmlDisk): boolean => included?.keepsBitmaps ?? false
  if (!disks.some(covers)) return null
  const root = element(null, 'domaincheckpoint')
  element(root, 'name', {}, name)
  element(root, 'description', {}, description)
  const list = element(root, 'disks')
  for (const disk of disks) element(list, 'disk', { name: disk.target, checkpoint: covers(disk) ? 'bitmap' : 'no' })
  return new XMLSerializer().serializeToString(root)
}

function element(parent: Element | null, name: string, attributes: Record<string, string> = {}, text?: string): Element {
  const document = parent?.ownerDocument ?? new DOMImplementation().createDocument(null, '')
  const made = document.createElement(name)
  setAttributes(made, attributes)
  if (text !== undefined) made.appendChild(document.createTextNode(text))
  parent?.appendChild(made)
  return made
}

function setAttributes(target: Element, attributes: Record<string, string>): void {
  for (const [name, value] of Object.entries(attributes)) target.setAttribute(name, value)
}
