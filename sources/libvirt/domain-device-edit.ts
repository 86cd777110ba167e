/** The devices of a copied domain: its own disks and network cards, and nothing that the original or the host has only once. */
import type { Element } from '@xmldom/xmldom'
import { child, children } from './domain-xml.ts'
import { addChild, ensureChild, removeChildren } from './xml-nodes.ts'

export interface NewDevices {
  /** Paths of the restored QCOW2 files by target (`vda`). Disks that are not here are left out. */
  diskPaths: ReadonlyMap<string, string>
  /** Of the n-th network card, from 0. */
  macAddressOf: (index: number) => string
  /** False: the cards are there, with their cables pulled. */
  connectNetwork: boolean
}

type Warn = (warning: string) => void

export function editDevices(devices: Element, copy: NewDevices, warn: Warn): void {
  for (const disk of children(devices, 'disk')) editDisk(devices, disk, copy, warn)
  removeUnique(devices, warn)
  for (const [index, card] of children(devices, 'interface').entries()) editCard(card, copy, index)
  for (const tpm of children(devices, 'tpm')) {
    if (child(tpm, 'backend')?.getAttribute('type') === 'emulator')
      warn('The TPM begins empty: what the original keeps in it, such as keys of encrypted disks, is not restored.')
  }
  for (const graphics of children(devices, 'graphics')) freePorts(graphics)
  for (const name of ['serial', 'parallel', 'console'] as const)
    for (const port of children(devices, name)) editPort(port, name, warn)
  for (const channel of children(devices, 'channel')) editChannel(channel)
  for (const vsock of children(devices, 'vsock')) {
    const cid = ensureChild(vsock, 'cid')
    cid.setAttribute('auto', 'yes')
    cid.removeAttribute('address')
  }
}

function editDisk(devices: Element, disk: Element, { diskPaths }: NewDevices, warn: Warn): void {
  const target = child(disk, 'target')?.getAttribute('dev') ?? ''
  const device = disk.getAttribute('device') || 'disk'
  const path = diskPaths.get(target)
  if (path !== undefined) {
    useFile(disk, path)
    return
  }
  if (device === 'cdrom' || device === 'floppy') {
    if (child(disk, 'source')) warn(`Drive ${target} is empty: its medium is not part of the backup.`)
    disk.setAttribute('type', 'file')
    for (const name of ofTheMedium) removeChildren(disk, name)
    return
  }
  warn(`Disk ${target} is not part of this restore; the VM has no such disk.`)
  devices.removeChild(disk)
}

const ofTheMedium = ['source', 'backingStore', 'mirror', 'auth', 'encryption'] as const

/** All the rest (bus, address, serial number, boot order, limits …) stays. */
function useFile(disk: Element, path: string): void {
  disk.setAttribute('type', 'file')
  disk.setAttribute('device', 'disk')
  // Of disks that were passed through.
  for (const name of ['rawio', 'sgio']) disk.removeAttribute(name)
  for (const name of [...ofTheMedium, 'transient', 'shareable'] as const) removeChildren(disk, name)
  const driver = ensureChild(disk, 'driver')
  driver.setAttribute('name', 'qemu')
  driver.setAttribute('type', 'qcow2')
  addChild(disk, 'source', { file: path })
}

/** Devices that the host or the original has once. Everything here is said aloud. */
const uniqueDevices: readonly [element: string, matches: (device: Element) => boolean, what: string][] = [
  ['hostdev', () => true, 'A device of the host that is passed through'],
  [
    'interface',
    (card) => ['hostdev', 'vdpa', 'vhostuser'].includes(card.getAttribute('type') ?? ''),
    'A network card of the host',
  ],
  ['filesystem', () => true, 'A folder of the host that is shared with the guest'],
  ['smartcard', (card) => card.getAttribute('mode') !== 'passthrough', 'A smartcard of the host'],
  ['tpm', (tpm) => child(tpm, 'backend')?.getAttribute('type') !== 'emulator', 'The TPM of the host'],
  [
    'memory',
    (memory) => ['nvdimm', 'virtio-pmem'].includes(memory.getAttribute('model') ?? ''),
    'A memory device that lies in a file of the host',
  ],
  ['shmem', () => true, 'Memory that is shared with other VMs'],
  ['lease', () => true, 'A lease of the lock manager'],
]

function removeUnique(devices: Element, warn: Warn): void {
  for (const [name, matches, what] of uniqueDevices) {
    for (const device of children(devices, name).filter(matches)) {
      warn(`${what} was left out: <${name}${describe(device)}>. Add it by hand if this VM is to have it.`)
      devices.removeChild(device)
    }
  }
}

function describe(device: Element): string {
  return ['type', 'mode', 'model', 'name']
    .flatMap((name) => (device.hasAttribute(name) ? [` ${name}="${device.getAttribute(name)}"`] : []))
    .join('')
}

function editCard(card: Element, { macAddressOf, connectNetwork }: NewDevices, index: number): void {
  ensureChild(card, 'mac').setAttribute('address', macAddressOf(index))
  // Names of the original's port, on the host and in Open vSwitch.
  removeChildren(card, 'target')
  for (const virtualport of children(card, 'virtualport')) {
    for (const parameters of children(virtualport, 'parameters')) parameters.removeAttribute('interfaceid')
  }
  if (!connectNetwork) ensureChild(card, 'link').setAttribute('state', 'down')
}

function freePorts(graphics: Element): void {
  graphics.removeAttribute('socket')
  for (const name of ['port', 'tlsPort', 'websocket']) graphics.removeAttribute(name)
  if (['vnc', 'spice', 'rdp'].includes(graphics.getAttribute('type') ?? '')) graphics.setAttribute('autoport', 'yes')
  for (const listen of children(graphics, 'listen'))
    if (listen.getAttribute('type') === 'socket') listen.removeAttribute('socket')
}

/** Needs nothing of the host. */
const harmlessPorts = new Set(['pty', 'null', 'vc', 'stdio', 'spicevmc', 'qemu-vdagent', ''])

function editPort(port: Element, name: string, warn: Warn): void {
  const type = port.getAttribute('type') ?? ''
  // A file, a socket or a device that the original uses.
  if (!harmlessPorts.has(type)) {
    warn(`The ${name} port was connected to the original's ${type}; it is a terminal (pty) now.`)
    port.setAttribute('type', 'pty')
    removeChildren(port, 'protocol')
  }
  port.removeAttribute('tty')
  removeChildren(port, 'source')
  removeChildren(port, 'log')
}

/** Without a path, libvirt gives each domain a socket of its own. */
function editChannel(channel: Element): void {
  if (channel.getAttribute('type') !== 'unix') return
  for (const source of children(channel, 'source')) source.removeAttribute('path')
}
