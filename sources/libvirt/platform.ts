/** The hypervisor as a whole: whether backups will work, and which VMs it has. */
import { HoldfastError } from '../../domain/errors.ts'
import type { DiscoveredVm, Platform, PlatformInfo } from '../source.ts'
import { describeDomainVm } from './describe.ts'
import { listDomains, loadDomain, type DomainPlace } from './domain-context.ts'
import { removeOrphans } from './orphans.ts'
import { LibvirtRestorer } from './restorer.ts'

/** Backups need checkpoints that libvirt itself keeps right. */
const LIBVIRT_MIN = '7.2.0'
/** Questions to libvirt at a time while it tells about all VMs. */
const DESCRIBED_AT_ONCE = 4

interface Options {
  signal?: AbortSignal | undefined
}

/** `runFolder`: of this process. */
export function createPlatform(place: DomainPlace, runFolder: string): Platform {
  return {
    probe: (options) => probe(place, options),
    discoverVms: (options) => discoverVms(place, options),
    removeOrphans: (owners, options) => removeOrphans(place, owners, options),
    restorer: new LibvirtRestorer({ ...place, runFolder }),
  }
}

async function probe({ connection, host }: DomainPlace, options: Options): Promise<PlatformInfo> {
  const versions = await connection.ask(['version', '--daemon'], options)
  const hostname = (await connection.ask(['hostname'], options)).trim()
  const libvirt = /daemon: (?:libvirt )?(\d+\.\d+\.\d+)/.exec(versions)?.[1] ?? /Using library: libvirt (\S+)/.exec(versions)?.[1]
  const qemu = /Running hypervisor: QEMU (\S+)/.exec(versions)?.[1]
  const warnings: string[] = []
  if (libvirt !== undefined && isOlder(libvirt, LIBVIRT_MIN)) {
    warnings.push(`libvirt ${libvirt} is too old for backups of running VMs: use ${LIBVIRT_MIN} or newer.`)
  }
  const folderProblem = await scratchProblem({ connection, host })
  if (folderProblem !== null) warnings.push(folderProblem)
  return { version: `QEMU ${qemu ?? 'unknown'}, libvirt ${libvirt ?? 'unknown'}`, hostname, warnings }
}

/** A missing scratch folder is a warning: the platform itself is there, and VMs can be discovered. */
async function scratchProblem({ connection, host }: DomainPlace): Promise<string | null> {
  try {
    await host.freeBytes(connection.scratchFolder)
    return null
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'SOURCE_INVALID') return error.message
    throw error
  }
}

async function discoverVms(place: DomainPlace, options: Options): Promise<DiscoveredVm[]> {
  const uuids = await listDomains(place.connection, options)
  const found: (DiscoveredVm | null)[] = []
  const next = uuids.entries()
  const work = async (): Promise<void> => {
    for (const [index, uuid] of next) found[index] = await discoverVm(place, uuid, options)
  }
  await Promise.all(Array.from({ length: DESCRIBED_AT_ONCE }, work))
  return found.filter((vm) => vm !== null)
}

/** `null` for a VM that vanished meanwhile. A libvirt that no longer answers ends the discovery; anything else is this VM's own. */
async function discoverVm(place: DomainPlace, uuid: string, options: Options): Promise<DiscoveredVm | null> {
  const base = { externalId: uuid, config: { uuid } }
  let name = uuid
  try {
    const context = await loadDomain(place, { uuid }, options)
    name = context.domain.name
    return { ...base, name, description: await describeDomainVm(context, options) }
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code === 'SOURCE_UNAVAILABLE') throw error
    if (error.code === 'SOURCE_NOT_FOUND' && name === uuid) return null
    return { ...base, name, description: { error: error.message } }
  }
}

function isOlder(version: string, than: string): boolean {
  return version.localeCompare(than, 'en', { numeric: true }) < 0
}
