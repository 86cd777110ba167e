/** What every step of a backup needs to know of its domain: which one, on which host, and which of its disks are backed up. */
import { z } from 'zod'
import type { BackupWarning } from '../../domain/backup.ts'
import { HoldfastError, type JsonObject } from '../../domain/errors.ts'
import type { LibvirtConnection } from './connection.ts'
import { describeDomain, type DomainDescription } from './domain-xml.ts'
import type { HypervisorHost } from './host.ts'
import { selectDisks, type IncludedDisk } from './included-disks.ts'

/** A VM's part of the configuration, as the catalog keeps it. */
export const domainConfig = z.strictObject({
  /** Any 128 bits: old and hand-made domains have UUIDs of no version. */
  uuid: z.guid(),
  /** Targets of disks that somebody does not want backed up. */
  excluded_disks: z.array(z.string().min(1).max(64)).max(1000).default([]),
})

export interface DomainContext {
  connection: LibvirtConnection
  host: HypervisorHost
  uuid: string
  /** From the running domain's XML if it runs, else from its definition. */
  domain: DomainDescription
  state: DomainState
  included: IncludedDisk[]
  /** Disks that are left out, and why. */
  warnings: BackupWarning[]
}

export interface DomainState {
  /** `running` and `paused` domains have a QEMU process; `off` has none. */
  power: 'running' | 'paused' | 'off'
  /** libvirt's own words: `shut off (crashed)`. */
  words: string
  /** Transient domains vanish when they stop, and libvirt keeps nothing about them. */
  persistent: boolean
}

/** Where the domain is asked. */
export interface DomainPlace {
  connection: LibvirtConnection
  host: HypervisorHost
}

/** UUIDs of all domains, running or not. */
export async function listDomains(
  connection: LibvirtConnection,
  options: { signal?: AbortSignal | undefined },
): Promise<string[]> {
  const list = await connection.ask(['list', '--all', '--uuid'], options)
  return list.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim()]))
}

/** Looks the domain up. Changes nothing. `SOURCE_INVALID`, `SOURCE_NOT_FOUND`, and the errors of `virsh`. */
export async function loadDomain(
  place: DomainPlace,
  config: JsonObject,
  options: { signal?: AbortSignal | undefined },
): Promise<DomainContext> {
  const { uuid, excluded_disks: excluded } = parseDomainConfig(config)
  const { connection } = place
  const state = await domainState(connection, uuid, options)
  const domain = describeDomain(await connection.ask(['dumpxml', uuid], options))
  const { included, warnings } = selectDisks(domain, new Set(excluded))
  return { ...place, uuid, domain, state, included, warnings }
}

export function parseDomainConfig(config: JsonObject): z.output<typeof domainConfig> {
  const parsed = domainConfig.safeParse(config)
  if (parsed.success) return parsed.data
  throw new HoldfastError('SOURCE_INVALID', `The configuration of this VM is not valid: ${z.prettifyError(parsed.error)}`)
}

async function domainState(
  connection: LibvirtConnection,
  uuid: string,
  options: { signal?: AbortSignal | undefined },
): Promise<DomainState> {
  const info = await connection.ask(['dominfo', uuid], options)
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*?)\\s*$`, 'm').exec(info)?.[1] ?? ''
  const words = field('State')
  return { power: powerOf(words), words, persistent: field('Persistent') === 'yes' }
}

/**
 * `idle`, `in shutdown` and `pmsuspended` have a QEMU process, and so has `crashed`: `<on_crash>preserve`, while a QEMU that died itself leaves
 * `shut off`. A suspended or crashed guest answers as little as a paused one.
 */
function powerOf(words: string): DomainState['power'] {
  if (words === 'shut off' || words === 'no state') return 'off'
  return words === 'paused' || words === 'pmsuspended' || words === 'crashed' ? 'paused' : 'running'
}
