import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { createTestDomain, type TestDomain } from '../../test/libvirt-domain.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder } from '../../test/temporary-folder.ts'
import type { OrphanOwners } from '../source.ts'
import { LibvirtConnection } from './connection.ts'
import { createHost } from './create-host.ts'
import { loadDomain, type DomainPlace } from './domain-context.ts'
import { addBitmap, lookAtImage } from './offline-images.ts'
import { removeOrphans } from './orphans.ts'
import { LibvirtSource } from './source.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 * 1024
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let place: DomainPlace
let source: LibvirtSource
let scratchFolder: string

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ folder: join(folder.path, 'l'), keep: true })
  const runFolder = join(folder.path, 'r')
  scratchFolder = join(folder.path, 's')
  await mkdir(scratchFolder)
  const sourceConnection = { id: 'libvirt-1', config: { uri: libvirt.uri, scratch_folder: scratchFolder }, credentials: null }
  const connection = new LibvirtConnection(sourceConnection, runFolder)
  place = { connection, host: createHost(connection, runFolder) }
  source = new LibvirtSource(runFolder, sourceConnection)
})

afterAll(async () => {
  await libvirt?.stop()
  await folder?.remove()
})

const made: TestDomain[] = []

beforeEach(() => async () => {
  for (const domain of made.splice(0)) await domain.destroy()
})

async function makeDomain(state: 'running' | 'off'): Promise<TestDomain> {
  const domain = await createTestDomain(libvirt, { disks: [{ sizeBytes: 4 * MIB }], state })
  made.push(domain)
  return domain
}

/** Every id that is not named is unknown. */
function owners(states: Record<string, 'running' | 'ended'>, inUse: string[] = []): OrphanOwners {
  return { stateOf: (id) => states[id] ?? 'unknown', changeIdsInUse: new Set(inUse) }
}

function begin(domain: TestDomain, backupId: string) {
  return source.beginSnapshot({ backupId, config: domain.config, parentChangeIds: {} }, {})
}

async function bitmapsOf(domain: TestDomain): Promise<string[]> {
  const { host, included } = await loadDomain(place, domain.config, {})
  const images = await Promise.all(included.map((disk) => lookAtImage(host, disk, {})))
  return images.flatMap(({ bitmaps }) => bitmaps.map(({ name }) => name)).toSorted()
}

it('ends the job of a backup that has ended, with its checkpoint and files, and says so', async () => {
  const domain = await makeDomain('running')
  await begin(domain, 'b-1')
  expect((await domain.traces(scratchFolder)).job).toBe(true)
  const lines = await removeOrphans(place, owners({ 'b-1': 'ended' }), {})
  expect(await domain.traces(scratchFolder)).toEqual({ job: false, checkpoints: [], files: [] })
  expect(lines.join('\n')).toMatch(/backup job of b-1 on VM "domain-\d+"\nremoved checkpoint holdfast-b-1/)
  expect(await removeOrphans(place, owners({ 'b-1': 'ended' }), {})).toEqual([])
})

it.each<[string, OrphanOwners]>([
  ['runs', owners({ 'b-1': 'running' })],
  ['is unknown here', owners({})],
])('leaves a backup alone that %s', async (_, state) => {
  const [on, off] = [await makeDomain('running'), await makeDomain('off')]
  await begin(on, 'b-1')
  await begin(off, 'b-1')
  const before = await on.traces(scratchFolder)
  expect(before).toMatchObject({ job: true, checkpoints: ['holdfast-b-1'] })
  expect(before.files.length).toBeGreaterThan(0)
  expect(await removeOrphans(place, state, {})).toEqual([])
  expect(await on.traces(scratchFolder)).toEqual(before)
  expect((await off.traces(scratchFolder)).checkpoints).toEqual(['holdfast-b-1'])
  expect(await bitmapsOf(off)).toEqual(['holdfast-b-1'])
  await source.endSnapshot(on.config, 'b-1', { outcome: 'abandoned', changeIdsInUse: [] }, {})
})

it('removes checkpoints of running and of shut-off domains, except those in use and those of others', async () => {
  for (const domain of [await makeDomain('running'), await makeDomain('running')]) {
    for (const id of ['old', 'used', 'elsewhere']) {
      await begin(domain, id)
      await source.endSnapshot(
        domain.config,
        id,
        { outcome: 'published', changeIdsInUse: ['holdfast-old', 'holdfast-used', 'holdfast-elsewhere'] },
        {},
      )
    }
    await domain.ask('checkpoint-create-as', 'foreign', '--diskspec', 'vda,checkpoint=bitmap')
  }
  const [running, stopped] = made
  await stopped?.shutDown()
  await removeOrphans(place, owners({ old: 'ended', used: 'ended' }, ['holdfast-used']), {})
  const kept = ['foreign', 'holdfast-elsewhere', 'holdfast-used']
  for (const domain of made) expect((await domain.traces(scratchFolder)).checkpoints.toSorted()).toEqual(kept)
  await running?.shutDown()
  for (const domain of made) expect(await bitmapsOf(domain)).toEqual(kept)
})

it('removes a bitmap of a shut-off domain of which libvirt was never told', async () => {
  const domain = await makeDomain('off')
  const { host, included } = await loadDomain(place, domain.config, {})
  for (const disk of included) for (const name of ['holdfast-b-1', 'holdfast-b-2', 'other']) await addBitmap(host, disk, name, {})
  expect(await removeOrphans(place, owners({ 'b-1': 'ended', 'b-2': 'running' }), {})).toHaveLength(1)
  expect(await bitmapsOf(domain)).toEqual(['holdfast-b-2', 'other'])
})

it('removes scratch files and sockets by their names', async () => {
  const orphans = ['holdfast-b-1.sock', 'holdfast-b-1-vda.scratch', 'holdfast-b-1-vdb.scratch', 'holdfast-b-1-a0b1.nbd']
  const others = [
    'holdfast-b-2.sock',
    'holdfast-b-1-x-vda.scratch',
    'holdfast-b-1',
    'holdfast-b-1.txt',
    'holdfast-',
    'b-1.sock',
    'xholdfast-b-1.sock',
    'holdfast-b-3-vda.scratch',
  ]
  for (const name of [...orphans, ...others]) await writeFile(join(scratchFolder, name), '')
  const lines = await removeOrphans(place, owners({ 'b-1': 'ended', 'b-3': 'running' }), {})
  expect(lines).toHaveLength(orphans.length)
  expect((await readdir(scratchFolder)).toSorted()).toEqual(others.toSorted())
})

it('goes on after a domain that cannot be tidied now', async () => {
  const [broken, fine] = [await makeDomain('off'), await makeDomain('off')]
  await begin(broken, 'b-1')
  await begin(fine, 'b-1')
  await writeFile(broken.disks[0]?.path ?? '', 'not a disk any more')
  const lines = await removeOrphans(place, owners({ 'b-1': 'ended' }), {})
  expect(lines.filter((line) => line.includes('could not be tidied'))).toEqual([expect.stringContaining(broken.uuid)])
  expect((await fine.traces(scratchFolder)).checkpoints).toEqual([])
})
