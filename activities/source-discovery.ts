/** Looking at platforms: whether they can be reached, and which VMs they have. */
import { cancellationSignal } from '@temporalio/activity'
import { ulid } from 'ulid'
import { recordDiscovery } from '../db/queries/vm-discovery.ts'
import type { FoundVm } from '../db/queries/vm-discovery.ts'
import { requireSource } from '../db/queries/sources.ts'
import type { SourceRow } from '../db/queries/sources.ts'
import { findVmContextsOfSource } from '../db/queries/vm-contexts.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { DiscoveredVm, Platform, PlatformInfo, Source, VmDescription } from '../sources/source.ts'
import type { Discovery, DiscoveryProblem } from '../temporal/operations.ts'
import { guarded } from './failure.ts'
import type { HostDependencies } from './host-dependencies.ts'
import type { SourceSettings } from './source-connections.ts'

/** What travels through histories and answers stays small, however many VMs a platform has. */
const PROBLEMS_MAX = 100
const PROBLEM_LENGTH_MAX = 500

/** What the catalog's columns hold. Names of platforms may be longer, and are cut; identities are not. */
const LENGTHS_MAX = { name: 255, externalId: 191, osType: 64, label: 255, format: 32, diskKey: 700, path: 4096 }

export interface SourceDiscoveryActivities {
  /** Reaches the platform with settings that need not be in the catalog. `SOURCE_*`, none of which is tried again: a person waits. Changes nothing. */
  probeSettings(settings: SourceSettings): Promise<PlatformInfo>

  /** The same for a source of the catalog. `SOURCE_CONNECTION_NOT_FOUND`. */
  probeSource(sourceId: string): Promise<PlatformInfo>

  /** Lists the platform's VMs and records them. A listing that fails changes nothing. `SOURCE_*`, as above. Idempotent. */
  discoverVms(sourceId: string): Promise<Discovery>
}

export function createSourceDiscoveryActivities(dependencies: HostDependencies): SourceDiscoveryActivities {
  const { catalog, openSource } = dependencies
  const probe = async (settings: SourceSettings): Promise<PlatformInfo> => {
    const platform = platformOf(await openSource(settings), settings.sourceId)
    return platform.probe({ signal: cancellationSignal() })
  }

  return guarded({
    async probeSettings(settings: SourceSettings): Promise<PlatformInfo> {
      return atOnce(() => probe(settings))
    },

    async probeSource(sourceId: string): Promise<PlatformInfo> {
      return atOnce(async () => probe(settingsOf(await requireSource(catalog, sourceId))))
    },

    async discoverVms(sourceId: string): Promise<Discovery> {
      return atOnce(async () => discover(await requireSource(catalog, sourceId)))
    },
  })

  async function discover(row: SourceRow): Promise<Discovery> {
    const source = await openSource(settingsOf(row))
    const listed = await platformOf(source, row.id).discoverVms({ signal: cancellationSignal() })
    const configs = new Map((await findVmContextsOfSource(catalog, row.id)).map((vm) => [vm.external_id, vm.config] as const))
    const found = new Map<string, FoundVm>()
    const problems: DiscoveryProblem[] = []
    for (const vm of listed) {
      const description = await describe(source, vm, configs.get(vm.externalId))
      const problem = 'error' in description ? description.error : unfit(vm, description)
      if (problem !== null) problems.push(problemOf(vm, problem))
      if (vm.externalId.length > LENGTHS_MAX.externalId) continue
      found.set(vm.externalId, asFound(vm, problem !== null || 'error' in description ? null : description))
    }
    const counts = await recordDiscovery(catalog, row, [...found.values()])
    return { found: found.size, ...counts, problems: problems.slice(0, PROBLEMS_MAX), problemCount: problems.length }
  }
}

export function settingsOf(row: SourceRow): SourceSettings {
  return { sourceId: row.id, sourceType: row.source_type, config: row.config, credentialsId: row.credentials_id }
}

/** `SOURCE_TYPE_UNSUPPORTED` for a source that is told of each VM. */
export function platformOf(source: Source, sourceId: string): Platform {
  if (source.platform) return source.platform
  throw new HoldfastError('SOURCE_TYPE_UNSUPPORTED', `A source of type "${source.type}" has no VMs of its own to find.`, {
    details: { source_id: sourceId, source_type: source.type },
  })
}

/** A VM that a person has configured (disks left out) is looked at again as it is backed up. */
async function describe(source: Source, vm: DiscoveredVm, known: JsonObject | undefined): Promise<DiscoveredVm['description']> {
  const excluded = known?.['excluded_disks']
  if ('error' in vm.description || !Array.isArray(excluded) || excluded.length === 0) return vm.description
  try {
    return await source.describeVm({ ...known, ...vm.config }, { signal: cancellationSignal() })
  } catch (error) {
    // One VM's trouble is part of the answer; that of the whole platform would have come up in the listing.
    if (error instanceof HoldfastError) return { error: error.message }
    throw error
  }
}

/** Why the catalog cannot hold this VM; `null` when it can. */
function unfit(vm: DiscoveredVm, { disks }: VmDescription): string | null {
  if (vm.externalId.length > LENGTHS_MAX.externalId) return 'its id is too long to be recorded'
  const unfitting = disks.find((disk) => disk.key.length > LENGTHS_MAX.diskKey)
  return unfitting ? `the name of its disk ${unfitting.index} is too long to be recorded` : null
}

function asFound(vm: DiscoveredVm, description: VmDescription | null): FoundVm {
  const disks = description?.disks.map(({ path, ...disk }) => ({
    ...disk,
    label: disk.label.slice(0, LENGTHS_MAX.label),
    format: disk.format.slice(0, LENGTHS_MAX.format),
    ...(path !== undefined && { path: path.slice(0, LENGTHS_MAX.path) }),
  }))
  return {
    newContextId: `ctx-${ulid().toLowerCase()}`,
    externalId: vm.externalId,
    name: vm.name.slice(0, LENGTHS_MAX.name),
    config: vm.config,
    seen: description && {
      ...description,
      osType: description.osType?.slice(0, LENGTHS_MAX.osType) ?? null,
      disks: disks ?? [],
    },
  }
}

function problemOf({ name, externalId }: DiscoveredVm, error: string): DiscoveryProblem {
  return {
    vmName: name.slice(0, LENGTHS_MAX.name),
    externalId: externalId.slice(0, LENGTHS_MAX.externalId),
    error: error.slice(0, PROBLEM_LENGTH_MAX),
  }
}

/** A person waits for the answer, and "it cannot be reached" is one: what may pass is said at once instead of tried again. */
async function atOnce<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof HoldfastError) || !error.retryable || error.code === 'CATALOG_UNAVAILABLE') throw error
    throw new HoldfastError(error.code, error.message, { details: error.details, cause: error, retryable: false })
  }
}
