/** Discovery and the removal of orphans on a catalog, with a platform that says what the test wants. The real one is in `sources/`. */
import { MockActivityEnvironment } from '@temporalio/testing'
import { ApplicationFailure } from '@temporalio/common'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Catalog } from '../db/client.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { DiscoveredVm, OrphanOwners, Platform, Source, VmDescription } from '../sources/source.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertBackup, insertBackupDisk, insertLibvirtVm, insertRepository, insertSource } from '../test/catalog-rows.ts'
import type { HostDependencies } from './host-dependencies.ts'
import type { SourceSettings } from './source-connections.ts'
import { createSourceDiscoveryActivities } from './source-discovery.ts'
import { createSourceOrphanActivities } from './source-orphans.ts'

let database: TestCatalog
let catalog: Catalog
let opened: SourceSettings[] = []
/** By source id. */
let platforms: Record<string, Partial<Platform>> = {}
let describeVm: Source['describeVm']

beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  await insertRepository(catalog, 'repo-1')
})
afterAll(() => database?.drop())
beforeEach(async () => {
  for (const table of ['backup_jobs', 'vm_contexts', 'sources'] as const) await catalog.deleteFrom(table).execute()
  await insertSource(catalog, 'source-a')
  opened = []
  platforms = {}
  describeVm = () => expect.unreachable('nobody should ask for this VM alone')
})

const disk = { index: 0, key: 'vda', label: 'vda', format: 'qcow2', sizeBytes: 1024, dataBytes: 512 }
const described: VmDescription = { powerState: 'on', cpuCount: 1, memoryMb: 64, osType: null, disks: [disk], warnings: [] }
const vm = (externalId: string, change: Partial<DiscoveredVm> = {}): DiscoveredVm => ({
  externalId,
  name: externalId,
  config: { uuid: externalId },
  description: described,
  ...change,
})

/** Only what these steps may use. */
function dependencies(): HostDependencies {
  const openSource = async (settings: SourceSettings): Promise<Source> => {
    opened.push(settings)
    const platform = platforms[settings.sourceId]
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the rest of a source is not touched
    return { type: 'libvirt', describeVm, ...(platform && { platform }) } as unknown as Source
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the rest is not touched
  return { catalog, openSource } as unknown as HostDependencies
}

/** As Temporal would hear it. */
async function failure(work: Promise<unknown>): Promise<ApplicationFailure> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof ApplicationFailure) return error
  return expect.unreachable(`not a failure of ours: ${String(error)}`)
}

const run = <T>(step: () => Promise<T>): Promise<T> => new MockActivityEnvironment({ heartbeatTimeoutMs: 10_000 }).run(step)
const discover = (id = 'source-a') => run(() => createSourceDiscoveryActivities(dependencies()).discoverVms(id))
const unavailable = async (): Promise<never> => {
  throw new HoldfastError('SOURCE_UNAVAILABLE', 'no route to host')
}
const vmRows = () => catalog.selectFrom('vm_contexts').selectAll().orderBy('external_id').execute()

describe('discovering', () => {
  test('records what there is, and names what cannot be described', async () => {
    const broken = vm('b', { name: 'odd "name"', description: { error: 'its XML cannot be read' } })
    platforms['source-a'] = { discoverVms: async () => [vm('a'), broken, vm('c')] }
    expect(await discover()).toEqual({
      found: 3,
      added: 2,
      updated: 0,
      vanished: 0,
      problems: [{ vmName: 'odd "name"', externalId: 'b', error: 'its XML cannot be read' }],
      problemCount: 1,
    })
    expect((await vmRows()).map((row) => [row.external_id, row.context_id])).toEqual([
      ['a', expect.stringMatching(/^ctx-[0-9a-z]{26}$/)],
      ['c', expect.stringMatching(/^ctx-[0-9a-z]{26}$/)],
    ])
  })

  test('opens the source with the settings of its row, and refers to its credentials', async () => {
    platforms['source-a'] = { discoverVms: async () => [] }
    await discover()
    const config = { uri: 'qemu+ssh://source-a/system', scratch_folder: '/var/tmp' }
    expect(opened).toEqual([{ sourceId: 'source-a', sourceType: 'libvirt', config, credentialsId: null }])
  })

  test('a listing that fails marks nothing as vanished, and is not tried again', async () => {
    await insertLibvirtVm(catalog, 'ctx-1', 'source-a')
    platforms['source-a'] = { discoverVms: unavailable }
    const { type, nonRetryable } = await failure(discover())
    expect([type, nonRetryable]).toEqual(['SOURCE_UNAVAILABLE', true])
    expect((await vmRows())[0]?.current_status).toBe('ready')
  })

  test('a VM with disks left out is looked at as it is backed up', async () => {
    await insertLibvirtVm(catalog, 'ctx-1', 'source-a', {
      external_id: 'a',
      config: JSON.stringify({ uuid: 'a', excluded_disks: ['vdb'] }),
    })
    const asked: JsonObject[] = []
    describeVm = async (config) => {
      asked.push(config)
      return described
    }
    const two = { ...described, disks: [disk, { ...disk, index: 1, key: 'vdb' }] }
    platforms['source-a'] = { discoverVms: async () => [vm('a', { description: two }), vm('b', { description: two })] }
    await discover()
    expect(asked).toEqual([{ uuid: 'a', excluded_disks: ['vdb'] }])
    const disks = await catalog.selectFrom('vm_disks').select(['vm_context_id', 'disk_key']).execute()
    expect(disks.filter((row) => row.vm_context_id === 'ctx-1').map((row) => row.disk_key)).toEqual(['vda'])
    expect(disks).toHaveLength(3)
  })

  test('that look failing is a problem of this VM alone', async () => {
    await insertLibvirtVm(catalog, 'ctx-1', 'source-a', {
      external_id: 'a',
      config: JSON.stringify({ uuid: 'a', excluded_disks: ['vdb'] }),
    })
    describeVm = async () => {
      throw new HoldfastError('SOURCE_NOT_FOUND', 'gone since')
    }
    platforms['source-a'] = { discoverVms: async () => [vm('a'), vm('b')] }
    expect(await discover()).toMatchObject({
      found: 2,
      added: 1,
      vanished: 0,
      problems: [{ externalId: 'a', error: 'gone since' }],
    })
  })

  test('what does not fit the catalog is cut or named, and keeps nobody else from being found', async () => {
    const long = 'x'.repeat(2_000)
    const odd = vm('odd', {
      name: `${'🦄'.repeat(200)}${long}`,
      description: { ...described, osType: long, disks: [{ ...disk, label: long, path: `/${long.repeat(3)}` }] },
    })
    const badDisk = vm('bad-disk', { description: { ...described, disks: [{ ...disk, key: long }] } })
    platforms['source-a'] = { discoverVms: async () => [odd, badDisk, vm(long), vm('a'), vm('a', { name: 'again' })] }
    const discovery = await discover()
    expect(discovery).toMatchObject({ added: 2, problemCount: 2 })
    expect(JSON.stringify(discovery).length).toBeLessThan(2_000)
    expect((await vmRows()).map((row) => row.external_id)).toEqual(['a', 'odd'])
  })

  test('the answer stays small however much is wrong', async () => {
    const broken = Array.from({ length: 1_000 }, (_, index) => vm(`vm-${index}`, { description: { error: 'x'.repeat(5_000) } }))
    platforms['source-a'] = { discoverVms: async () => broken }
    const discovery = await discover()
    expect([discovery.problems.length, discovery.problemCount]).toEqual([100, 1_000])
    expect(JSON.stringify(discovery).length).toBeLessThan(100_000)
  })

  test('a source that is gone, and one without VMs of its own', async () => {
    expect((await failure(discover('gone'))).type).toBe('SOURCE_CONNECTION_NOT_FOUND')
    expect((await failure(discover())).type).toBe('SOURCE_TYPE_UNSUPPORTED')
  })
})

describe('probing', () => {
  const steps = () => createSourceDiscoveryActivities(dependencies())

  test('a source of the catalog, and settings that are to become one', async () => {
    const info = { version: 'QEMU 7.2.0', hostname: 'kvm-1', warnings: [] }
    platforms = { 'source-a': { probe: async () => info }, new: { probe: async () => info } }
    expect(await run(() => steps().probeSource('source-a'))).toEqual(info)
    const settings: SourceSettings = {
      sourceId: 'new',
      sourceType: 'libvirt',
      config: { uri: 'x' },
      credentialsId: 'credentials-1',
    }
    expect(await run(() => steps().probeSettings(settings))).toEqual(info)
    expect(opened[1]).toEqual(settings)
  })

  test('"cannot be reached" is said at once; a catalog that is away is asked again', async () => {
    platforms['source-a'] = { probe: unavailable }
    expect((await failure(run(() => steps().probeSource('source-a')))).nonRetryable).toBe(true)
    platforms['source-a'] = {
      probe: async () => {
        throw new HoldfastError('CATALOG_UNAVAILABLE', 'away')
      },
    }
    expect((await failure(run(() => steps().probeSource('source-a')))).nonRetryable).toBe(false)
  })
})

describe('removing orphans', () => {
  const sweep = () => run(() => createSourceOrphanActivities(dependencies()).removeSourceOrphans('local'))

  test('tells each platform whose backups run, have ended, and are not ours', async () => {
    await insertSource(catalog, 'source-b')
    await insertLibvirtVm(catalog, 'ctx-a', 'source-a')
    await insertLibvirtVm(catalog, 'ctx-b', 'source-b')
    for (const status of ['pending', 'running', 'completed', 'failed', 'cancelled'] as const)
      await insertBackup(catalog, { id: status, vm_context_id: 'ctx-a', repository_id: 'repo-1', status })
    await insertBackupDisk(catalog, 'completed')
    await catalog.updateTable('backup_disks').set({ disk_change_id: 'holdfast-completed' }).execute()
    const owners: Record<string, OrphanOwners> = {}
    const remember = (id: string) => ({
      removeOrphans: async (given: OrphanOwners) => {
        owners[id] = given
        return [`removed a checkpoint of ${id}`]
      },
    })
    platforms = { 'source-a': remember('source-a'), 'source-b': remember('source-b') }
    expect(await sweep()).toEqual([
      { kind: 'orphan', what: 'source "source-a": removed a checkpoint of source-a' },
      { kind: 'orphan', what: 'source "source-b": removed a checkpoint of source-b' },
    ])
    const ask = (id: string) =>
      ['pending', 'running', 'completed', 'failed', 'cancelled', 'never'].map((backup) => owners[id]!.stateOf(backup))
    expect(ask('source-a')).toEqual(['running', 'running', 'ended', 'ended', 'ended', 'unknown'])
    expect(ask('source-b')).toEqual(Array.from({ length: 6 }, () => 'unknown'))
    expect([...owners['source-a']!.changeIdsInUse]).toEqual(['holdfast-completed'])
  })

  test('a platform that does not answer is reported, and the others are looked through', async () => {
    await insertSource(catalog, 'source-b')
    platforms = { 'source-a': { removeOrphans: unavailable }, 'source-b': { removeOrphans: async () => ['removed a job'] } }
    expect(await sweep()).toEqual([
      { kind: 'unrepaired', what: expect.stringContaining('source "source-a" could not be looked through: no route to host') },
      { kind: 'orphan', what: 'source "source-b": removed a job' },
    ])
  })

  test('of another host is not ours to look at; one without a platform has nothing', async () => {
    await insertSource(catalog, 'source-far', { host_id: 'elsewhere' })
    expect(await sweep()).toEqual([])
    expect(opened.map((settings) => settings.sourceId)).toEqual(['source-a'])
  })

  test('a look that took long is not repeated at once', async () => {
    const looks: number[] = []
    platforms['source-a'] = {
      removeOrphans: async () => {
        looks.push(Date.now())
        await new Promise((resolve) => setTimeout(resolve, 20))
        return []
      },
    }
    const steps = createSourceOrphanActivities(dependencies())
    await run(() => steps.removeSourceOrphans('local'))
    await run(() => steps.removeSourceOrphans('local'))
    expect(looks).toHaveLength(1)
  })
})
