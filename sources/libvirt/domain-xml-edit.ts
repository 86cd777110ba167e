/**
 * Turning the definition of a domain into that of a copy which can live beside it: nothing of the copy may be the original's, and what
 * this code does not know stays as it is (https://libvirt.org/formatdomain.html).
 */
import { XMLSerializer, type Document, type Element } from '@xmldom/xmldom'
import { HoldfastError } from '../../domain/errors.ts'
import { editDevices, type NewDevices } from './domain-device-edit.ts'
import { child, children, parseXml } from './domain-xml.ts'
import { removeChildren, replaceText } from './xml-nodes.ts'

export interface NewDomain extends NewDevices {
  name: string
  uuid: string
}

export interface EditedDomain {
  xml: string
  /** For people: what the copy has not got, or has in another form. */
  warnings: string[]
}

/** The definition of the copy. `RESTORE_TARGET_INVALID` when `xml` defines no domain. */
export function newDomainXml(xml: string, domain: NewDomain): EditedDomain {
  const document = parsed(xml)
  const root = domainOf(document)
  const warnings: string[] = []
  const warn = (warning: string): void => void warnings.push(warning)
  // Of running domains, and of no use to the copy.
  root.removeAttribute('id')
  setText(document, root, 'name', domain.name)
  setText(document, root, 'uuid', domain.uuid)
  // Empty: libvirt makes a new one, which tells the guest that it is a copy.
  for (const genid of children(root, 'genid')) replaceText(genid, '')
  editFirmware(root, domain.uuid, warn)
  // Labels that libvirt gave to the original's processes and files.
  removeChildren(root, 'seclabel', (label) => (label.getAttribute('type') || 'dynamic') === 'dynamic')
  for (const devices of children(root, 'devices')) editDevices(devices, domain, warn)
  if ([...root.childNodes].some((node) => node.nodeName === 'qemu:commandline')) {
    warn(
      'The definition passes arguments to QEMU that were taken over as they are: look through <qemu:commandline> before the start.',
    )
  }
  return { xml: new XMLSerializer().serializeToString(root, { requireWellFormed: true }), warnings }
}

/** Disks whose definition says what lies below them: libvirt believes that, whatever the file itself says. By target. */
export function explicitBackingTargets(xml: string): string[] {
  return children(child(domainOf(parsed(xml)), 'devices'), 'disk')
    .filter((disk) =>
      children(disk, 'backingStore').some((store) => store.hasAttribute('type') || child(store, 'source') !== null),
    )
    .map((disk) => child(disk, 'target')?.getAttribute('dev') ?? '')
}

/** NVRAM is not part of a backup. */
function editFirmware(root: Element, uuid: string, warn: (warning: string) => void): void {
  const os = child(root, 'os')
  for (const nvram of children(os, 'nvram')) {
    if (nvram.textContent?.trim() || child(nvram, 'source')) {
      warn('The firmware begins with fresh settings (NVRAM): boot entries and Secure Boot keys of the original are not restored.')
    }
    // Without a path, libvirt makes a file of the copy's own from the template.
    if (nvram.hasAttribute('template')) {
      replaceText(nvram, '')
      for (const attribute of ['type', 'format']) nvram.removeAttribute(attribute)
    } else os?.removeChild(nvram)
  }
  for (const sysinfo of children(root, 'sysinfo')) {
    for (const entry of children(child(sysinfo, 'system'), 'entry')) {
      // libvirt refuses a domain whose two UUIDs differ.
      if (entry.getAttribute('name') === 'uuid') replaceText(entry, uuid)
    }
  }
}

function setText(document: Document, parent: Element, name: string, text: string): void {
  const existing = child(parent, name)
  const element = existing ?? document.createElement(name)
  if (!existing) parent.insertBefore(element, parent.firstChild)
  replaceText(element, text)
}

function parsed(xml: string): Document {
  try {
    return parseXml(xml)
  } catch (cause) {
    throw unusable(cause)
  }
}

function domainOf(document: Document): Element {
  const root = document.documentElement
  if (root?.localName === 'domain') return root
  throw unusable()
}

function unusable(cause?: unknown): HoldfastError {
  return new HoldfastError(
    'RESTORE_TARGET_INVALID',
    'This backup holds no definition of a libvirt domain, so no VM can be made of it: restore its disks to files.',
    { cause },
  )
}
