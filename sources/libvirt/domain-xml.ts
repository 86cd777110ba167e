/** Reading libvirt's domain XML (https://libvirt.org/formatdomain.html). */
import { DOMParser, type Document, type Element } from '@xmldom/xmldom'
import { HoldfastError } from '../../domain/errors.ts'

export interface DomainDisk {
  /** The guest's device, unique in the domain: `vda`. */
  target: string
  /** `disk`, `cdrom`, `floppy`, `lun` */
  device: string
  /** `file`, `block`, `network`, `volume` …: where the content lies. */
  sourceType: string
  /** Of files and block devices; `null` for other types and empty drives. */
  path: string | null
  /** Of the driver: `qcow2`, `raw` … */
  format: string
  readOnly: boolean
  shareable: boolean
  transient: boolean
}

export interface DomainDescription {
  uuid: string
  name: string
  vcpus: number | null
  memoryMb: number | null
  /** From libosinfo's metadata, where the domain was made with it: `http://debian.org/debian/12`. */
  osId: string | null
  nvramPath: string | null
  disks: DomainDisk[]
  /** Whether there is a channel for QEMU's guest agent. */
  hasGuestAgent: boolean
  /** Of a running domain: `connected` when somebody in the guest has opened the channel; `null` where libvirt does not say. */
  guestAgentState: 'connected' | 'disconnected' | null
}

/** `SOURCE_INVALID` when it is not a domain. */
export function parseXml(text: string): Document {
  try {
    return new DOMParser({
      onError: (level, message) => {
        if (level !== 'warning') throw new Error(message)
      },
      normalizeLineEndings: lineFeeds,
    }).parseFromString(text, 'text/xml')
  } catch (cause) {
    throw new HoldfastError('SOURCE_INVALID', 'libvirt gave XML that cannot be read.', { cause })
  }
}

/** As of XML 1.0, which libvirt writes. The parser's own way is that of 1.1, where U+0085 and U+2028, which names may hold, end lines too. */
function lineFeeds(source: string): string {
  return source.replaceAll(/\r\n?/g, '\n')
}

export function describeDomain(xml: string): DomainDescription {
  const root = parseXml(xml).documentElement
  const domain = root?.localName === 'domain' ? root : child(root, 'domain')
  const uuid = domain && text(domain, 'uuid')
  const name = domain && text(domain, 'name')
  if (!domain || uuid == null || name == null)
    throw new HoldfastError('SOURCE_INVALID', 'libvirt gave XML that describes no domain.')
  const vcpus = Number(text(domain, 'vcpu'))
  const devices = child(domain, 'devices')
  const targets = children(devices, 'channel').map((channel) => child(channel, 'target'))
  const agent = targets.find((target) => target?.getAttribute('name') === 'org.qemu.guest_agent.0')
  const agentState = agent?.getAttribute('state')
  return {
    uuid,
    name,
    vcpus: Number.isInteger(vcpus) && vcpus > 0 ? vcpus : null,
    memoryMb: memoryMb(child(domain, 'memory')),
    osId:
      [...domain.getElementsByTagNameNS('*', 'os')].map((os) => os.getAttribute('id')).find((id) => id !== null && id !== '') ??
      null,
    nvramPath: text(child(domain, 'os'), 'nvram'),
    disks: children(devices, 'disk').map(diskOf),
    hasGuestAgent: agent !== undefined,
    guestAgentState: agentState === 'connected' || agentState === 'disconnected' ? agentState : null,
  }
}

function diskOf(disk: Element): DomainDisk {
  const source = child(disk, 'source')
  const attribute = (of: Element | null, name: string): string | null => of?.getAttribute(name) || null
  return {
    target: attribute(child(disk, 'target'), 'dev') ?? '',
    device: attribute(disk, 'device') ?? 'disk',
    sourceType: attribute(disk, 'type') ?? 'file',
    path: attribute(source, 'file') ?? attribute(source, 'dev'),
    format: attribute(child(disk, 'driver'), 'type') ?? 'raw',
    readOnly: child(disk, 'readonly') !== null,
    shareable: child(disk, 'shareable') !== null,
    transient: child(disk, 'transient') !== null,
  }
}

const MIB = 1024 * 1024
const units: Record<string, number> = {
  b: 1,
  bytes: 1,
  KB: 1000,
  k: 1024,
  KiB: 1024,
  MB: 1e6,
  M: MIB,
  MiB: MIB,
  GB: 1e9,
  G: 1024 * MIB,
  GiB: 1024 * MIB,
  TB: 1e12,
  T: MIB * MIB,
  TiB: MIB * MIB,
}

function memoryMb(memory: Element | null): number | null {
  const amount = Number(memory?.textContent ?? Number.NaN)
  const unit = units[memory?.getAttribute('unit') || 'KiB']
  return Number.isFinite(amount) && unit !== undefined ? Math.round((amount * unit) / MIB) : null
}

/** Direct children of that name, in order. */
export function children(parent: Element | null, name: string): Element[] {
  return [...(parent?.childNodes ?? [])].filter((node): node is Element => node.nodeType === 1 && node.nodeName === name)
}

export function child(parent: Element | null, name: string): Element | null {
  return children(parent, name)[0] ?? null
}

export function text(parent: Element | null, name: string): string | null {
  return child(parent, name)?.textContent?.trim() || null
}
