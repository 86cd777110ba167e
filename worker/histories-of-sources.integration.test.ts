/** Histories of the workflows around source connections, recorded from real runs; see `histories.integration.test.ts`. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { sealCredentials } from '../security/sealed-credentials.ts'
import { homeFolders } from '../runtime/environment.ts'
import type { SourceRequest } from '../temporal/operations.ts'
import {
  changeSourceWorkflowId,
  discoverVmsWorkflowId,
  registerSourceWorkflowId,
  testSourceWorkflowId,
} from '../temporal/workflow-ids.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { createTestDomain } from '../test/libvirt-domain.ts'
import { startPrivateLibvirt } from '../test/private-libvirt.ts'
import type { PrivateLibvirt } from '../test/private-libvirt.ts'
import { eventCount, recordHistory } from '../test/recorded-histories.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let holdfast: HoldfastProcesses
let source: SourceRequest

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ folder: join(folder.path, 'libvirt'), keep: true })
  holdfast = await createHoldfastProcesses()
  await createTestDomain(libvirt, { disks: [{ sizeBytes: 1024 ** 2 }], state: 'off' })
  source = {
    sourceId: 'source-history',
    name: 'kvm',
    sourceType: 'libvirt',
    hostId: 'local',
    config: { uri: libvirt.uri, scratch_folder: folder.path },
    credentialsId: null,
    maxConcurrentBackups: 4,
  }
})
afterAll(async () => {
  await holdfast?.close()
  await libvirt?.stop()
  await folder?.remove()
})

const nowhere = () => ({ uri: `qemu+unix:///system?socket=${folder.path}/nobody`, scratch_folder: folder.path })
const seal = () => sealCredentials(holdfast.catalog, homeFolders(holdfast.home).keys, { ssh_private_key: 'x' })
const storedCredentials = async () =>
  (await holdfast.catalog.selectFrom('sealed_credentials').select('id').execute()).map((row) => row.id)

async function record(name: string, workflowId: string): Promise<void> {
  await recordHistory(holdfast.client, name, { workflowId })
}

test('of a source that is refused, and one that is added', async () => {
  const refused = { ...source, sourceId: 'source-refused', config: nowhere(), credentialsId: await seal() }
  expect((await failureOf(holdfast.operations.registerSource(refused))).code).toBe('SOURCE_UNAVAILABLE')
  expect(await storedCredentials()).toEqual([])
  await record('register-source-refused', registerSourceWorkflowId('source-refused'))
  source = { ...source, credentialsId: await seal() }
  expect(await holdfast.operations.registerSource(source)).toMatchObject({ version: expect.stringContaining('libvirt') })
  await record('register-source', registerSourceWorkflowId(source.sourceId))
  expect(await eventCount(holdfast.client, { workflowId: registerSourceWorkflowId(source.sourceId) })).toBeLessThan(40)
})

test('of a change that is refused, and one that is made', async () => {
  const { credentialsId } = source
  const refused = { ...source, config: nowhere(), credentialsId: await seal() }
  expect((await failureOf(holdfast.operations.changeSource(refused))).code).toBe('SOURCE_UNAVAILABLE')
  expect(await storedCredentials()).toEqual([credentialsId])
  await record('change-source-refused', changeSourceWorkflowId(source.sourceId))
  source = { ...source, name: 'renamed', credentialsId: await seal() }
  await holdfast.operations.changeSource(source)
  expect(await storedCredentials()).toEqual([source.credentialsId])
  await record('change-source', changeSourceWorkflowId(source.sourceId))
})

test('of looks, while the platform is there and while it is not', async () => {
  const { sourceId, hostId } = source
  await holdfast.operations.testSource({ sourceId, hostId })
  await record('test-source', testSourceWorkflowId(sourceId))
  expect(await holdfast.operations.discoverVms({ sourceId, hostId })).toMatchObject({ found: 1, added: 1 })
  await record('discover-vms', discoverVmsWorkflowId(sourceId))
  await libvirt.stop()
  expect((await failureOf(holdfast.operations.testSource({ sourceId, hostId }))).code).toBe('SOURCE_UNAVAILABLE')
  await record('test-source-unreachable', testSourceWorkflowId(sourceId))
  expect((await failureOf(holdfast.operations.discoverVms({ sourceId, hostId }))).code).toBe('SOURCE_UNAVAILABLE')
  await record('discover-vms-unreachable', discoverVmsWorkflowId(sourceId))
})
