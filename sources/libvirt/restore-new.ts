/** A restore as a new domain beside the original. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { identityOf, targetExists } from '../../disks/restore-files.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { slug } from '../../domain/ids.ts'
import type { PlannedDisk, RestoredVm, VmRestore, VmRestoreDisk, VmRestorer } from '../source.ts'
import type { LibvirtConnection } from './connection.ts'
import { stateOf } from './domain-power.ts'
import { newDomainXml, type EditedDomain } from './domain-xml-edit.ts'
import { describeDomain } from './domain-xml.ts'
import { checkFolder, giveName, removeFirstNames, removeNamed, stageOf, writePathOf } from './restored-files.ts'

type Options = { signal?: AbortSignal }

/** Leaves room for the target and the endings that a file has while it is written. */
const NAME_PART_MAX = 100

export class RestoreNew implements Omit<VmRestorer, 'start'> {
  readonly #connection: LibvirtConnection
  readonly #runFolder: string

  constructor(place: { connection: LibvirtConnection; runFolder: string }) {
    this.#connection = place.connection
    this.#runFolder = place.runFolder
  }

  async plan(restore: VmRestore & { disks: VmRestoreDisk[] }, options: Options): Promise<PlannedDisk[]> {
    const { vmName, diskFolder } = restore.target
    const folder = (diskFolder ?? '').replace(/\/+$/, '')
    const disks = restore.disks.map((disk): PlannedDisk => {
      const path = `${folder}/${slug(vmName, NAME_PART_MAX)}-${targetOf(disk)}.qcow2`
      return { ...disk, path, writePath: writePathOf(path, restore.restoreId), format: 'qcow2' }
    })
    requireDisks(definitionOf(restore, disks), disks)
    await this.#requireFreeName(vmName, options)
    for (const { path } of disks) if ((await identityOf(path)) !== null) throw targetExists(path)
    await checkFolder(`${folder}/x`, restore.restoreId)
    return disks
  }

  async complete(restore: VmRestore & { disks: PlannedDisk[] }, options: Options): Promise<RestoredVm> {
    const { xml, warnings } = definitionOf(restore, restore.disks)
    const externalId = uuidOf(restore.restoreId)
    if ((await stateOf(this.#connection, externalId, options)) === null) {
      for (const disk of restore.disks) await giveName(disk)
      await this.#define(xml, restore.target.vmName, options)
    }
    await removeFirstNames(restore.disks)
    return { externalId, warnings }
  }

  async discard(restore: VmRestore & { disks: PlannedDisk[] }, options: Options): ReturnType<VmRestorer['discard']> {
    const { disks, restoreId } = restore
    const uuid = uuidOf(restoreId)
    const stages = await Promise.all(disks.map((disk) => stageOf(disk)))
    const isWritten = stages.some((stage) => stage !== 'gone')
    // Without a disk that has got its name there cannot be a domain, and libvirt may be away.
    const mayBeDefined = stages.includes('named') || (!isWritten && (await someExist(disks)))
    const isDefined = mayBeDefined && (await stateOf(this.#connection, uuid, options)) !== null
    if (isDefined && !isWritten) return 'complete'
    if (isDefined) await this.#connection.ask(['undefine', uuid, '--nvram'], options)
    for (const disk of disks) await removeNamed(disk)
    await removeFirstNames(disks)
    return 'discarded'
  }

  async #requireFreeName(name: string, options: Options): Promise<void> {
    const names = (await this.#connection.ask(['list', '--all', '--name'], options)).split('\n')
    if (names.includes(name)) throw nameTaken(name)
  }

  /** libvirt reads definitions from files only. */
  async #define(xml: string, name: string, options: Options): Promise<void> {
    await mkdir(this.#runFolder, { recursive: true, mode: 0o700 })
    const file = join(this.#runFolder, `define-${randomBytes(6).toString('hex')}.xml`)
    try {
      await writeFile(file, xml, { mode: 0o600, flag: 'wx' })
      await this.#connection.ask(['define', file], options)
    } catch (error) {
      throw refusedDefinition(error, name)
    } finally {
      await rm(file, { force: true })
    }
  }
}

async function someExist(disks: readonly PlannedDisk[]): Promise<boolean> {
  const found = await Promise.all(disks.map(({ path }) => identityOf(path)))
  return found.some((identity) => identity !== null)
}

function definitionOf({ restoreId, target, vmConfig }: VmRestore, disks: readonly { key: string; path: string }[]): EditedDomain {
  const xml = vmConfig['domain_xml']
  return newDomainXml(typeof xml === 'string' ? xml : '', {
    name: target.vmName,
    uuid: uuidOf(restoreId),
    diskPaths: new Map(disks.map(({ key, path }) => [key, path])),
    macAddressOf: (index) => macAddressOf(restoreId, index),
    connectNetwork: target.connectNetwork,
  })
}

/** A disk that the definition does not mention would be written for nobody. */
function requireDisks({ xml }: EditedDomain, disks: readonly PlannedDisk[]): void {
  const paths = new Set(describeDomain(xml).disks.map(({ path }) => path))
  const unknown = disks.filter(({ path }) => !paths.has(path)).map(({ key }) => key)
  if (unknown.length === 0) return
  throw new HoldfastError(
    'RESTORE_TARGET_INVALID',
    `The VM's definition in this backup has no disk ${unknown.join(', ')}: restore ${unknown.length === 1 ? 'it' : 'them'} to files.`,
    { details: { disks: unknown } },
  )
}

function targetOf({ key }: VmRestoreDisk): string {
  if (/^\w{1,64}$/.test(key)) return key
  throw new HoldfastError('RESTORE_TARGET_INVALID', `"${key}" is no disk of a libvirt domain: restore it to a file.`)
}

/** From the restore's id, so that a repeated attempt finds what the first one made. */
function uuidOf(restoreId: string): string {
  const hash = digest(`uuid of ${restoreId}`)
  hash[6] = (hash[6]! & 0x0f) | 0x40
  hash[8] = (hash[8]! & 0x3f) | 0x80
  return hash.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** In the range that QEMU and libvirt use. */
function macAddressOf(restoreId: string, index: number): string {
  const bytes = digest(`network card ${index} of ${restoreId}`).subarray(0, 3)
  return ['52', '54', '00', ...[...bytes].map((byte) => byte.toString(16).padStart(2, '0'))].join(':')
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function refusedDefinition(error: unknown, name: string): unknown {
  if (!(error instanceof HoldfastError) || error.code !== 'TOOL_FAILED') return error
  if (/already exists with uuid|already defined/.test(error.message)) return nameTaken(name, error)
  return new HoldfastError('RESTORE_TARGET_INVALID', `libvirt refuses the definition of "${name}": ${error.message}`, {
    cause: error,
  })
}

function nameTaken(name: string, cause?: unknown): HoldfastError {
  return new HoldfastError('VM_EXISTS', `The hypervisor already has a VM "${name}": choose another name.`, {
    cause,
    details: { vm_name: name },
  })
}
