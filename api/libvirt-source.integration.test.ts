/** A libvirt connection through the whole product: real API, Temporal, workers, MariaDB, libvirt and QEMU. */
import { readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Repair } from '../activities/reconciliation.ts'
import { backupIdFor } from '../domain/ids.ts'
import { sealCredentials } from '../security/sealed-credentials.ts'
import { CONTROL_QUEUE } from '../temporal/task-queues.ts'
import { createTestApi } from '../test/api-app.ts'
import type { TestApi } from '../test/api-app.ts'
import { insertBackup } from '../test/catalog-rows.ts'
import { noise } from '../test/disk-backups.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { createTestDomain } from '../test/libvirt-domain.ts'
import type { TestDomain } from '../test/libvirt-domain.ts'
import { startPrivateLibvirt } from '../test/private-libvirt.ts'
import type { PrivateLibvirt } from '../test/private-libvirt.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { historiesOf } from '../test/workflow-histories.ts'

requireTool('libvirtd')
requireTool('qemu-system-x86_64')

const MIB = 1024 ** 2
const canary = 'canary7d02c5'
const privateKey = `-----BEGIN OPENSSH PRIVATE KEY-----\n${canary}\n-----END OPENSSH PRIVATE KEY-----`
const oddName = `web "ü" $(touch x); 'y'`

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let holdfast: HoldfastProcesses
let api: TestApi
let web: TestDomain
let spare: TestDomain
let sourceId: string
let repositoryId: string
const answers: string[] = []

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ folder: join(folder.path, 'libvirt'), keep: true })
  const [stack, first, second] = await Promise.all([
    createHoldfastProcesses(),
    createTestDomain(libvirt, { name: oddName, disks: [{ sizeBytes: 8 * MIB }, { sizeBytes: 4 * MIB }] }),
    createTestDomain(libvirt, { name: 'spare', disks: [{ sizeBytes: 4 * MIB }], state: 'off' }),
  ])
  holdfast = stack
  web = first
  spare = second
  await web.write(0, 0, noise(2 * MIB, 1))
  api = await createTestApi({ real: holdfast })
  await holdfast.client.schedule.getHandle('reconcile').pause()
  const config = { path: join(holdfast.home, 'repository') }
  repositoryId = String((await call('POST', '/repositories', { name: 'Local', type: 'local', config }))['repository_id'])
})
afterAll(async () => {
  await api?.drop()
  await holdfast?.close()
  await libvirt?.stop()
  await folder?.remove()
})

/** The answer's body, with its status. */
async function call(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const answer = await api.call(method, path, body && { body })
  answers.push(JSON.stringify(answer.body))
  return { ...answer.body, http: answer.status }
}

const credentialRows = () => holdfast.catalog.selectFrom('sealed_credentials').select('id').execute()
const sourceNow = async () => (await call('GET', `/sources/${sourceId}`))['source']
const discover = () => call('POST', `/sources/${sourceId}/discover`)
const webPath = `/vm-contexts/${encodeURIComponent(oddName)}`

async function backUp(backupType: string): Promise<Record<string, unknown>> {
  const body = { vm_name: oddName, repository_id: repositoryId, backup_type: backupType }
  await expect.poll(async () => (await call('POST', '/backups', body))['http'], { timeout: 60_000, interval: 200 }).toBe(202)
  const [newest] = (await call('GET', '/backups?limit=1'))['backups'] as { backup_id: string }[]
  const path = `/backups/${newest!.backup_id}`
  await expect.poll(async () => (await call('GET', path))['status'], { timeout: 60_000, interval: 200 }).toBe('completed')
  return call('GET', path)
}

describe('a connection', () => {
  test('is reached before it is recorded', async () => {
    const gone = `qemu+unix:///system?socket=${folder.path}/nobody`
    const request = { name: 'kvm', source_type: 'libvirt', uri: gone, credentials: { ssh_private_key: privateKey } }
    expect(await call('POST', '/sources', request)).toMatchObject({ http: 503, error_code: 'SOURCE_UNAVAILABLE' })
    expect(await call('GET', '/sources')).toMatchObject({ total_count: 0 })
    expect(await credentialRows()).toEqual([])
    const refused = await call('POST', '/sources', { ...request, uri: 'qemu:///system?command=/bin/sh' })
    expect(refused).toMatchObject({ http: 422, error_code: 'SOURCE_INVALID' })
    const added = await call('POST', '/sources', { ...request, uri: libvirt.uri, scratch_folder: folder.path })
    expect(added).toMatchObject({
      http: 201,
      source: {
        status: 'reachable',
        version: expect.stringMatching(/QEMU \d.*libvirt \d/),
        hostname: expect.stringMatching(/./),
      },
    })
    sourceId = String(added['source_id'])
    expect(await credentialRows()).toHaveLength(1)
  })

  test('is changed only to what can be reached; the old settings and credentials stay until then', async () => {
    const before = await sourceNow()
    const change = { uri: `qemu+unix:///system?socket=${folder.path}/nobody`, credentials: { ssh_private_key: privateKey } }
    expect(await call('PATCH', `/sources/${sourceId}`, change)).toMatchObject({ http: 503, error_code: 'SOURCE_UNAVAILABLE' })
    expect(await sourceNow()).toEqual(before)
    const [old] = await credentialRows()
    expect(await call('PATCH', `/sources/${sourceId}`, { credentials: { ssh_private_key: privateKey } })).toMatchObject({
      http: 200,
    })
    const now = await credentialRows()
    expect(now).toHaveLength(1)
    expect(now).not.toEqual([old])
    expect(await call('POST', `/sources/${sourceId}/test`)).toMatchObject({ http: 200, source: { has_credentials: true } })
  })
})

describe('its VMs', () => {
  test('are found, and one that cannot be described is named', async () => {
    const broken = await createTestDomain(libvirt, { name: 'broken', disks: [{ sizeBytes: MIB }], state: 'off' })
    await rename(broken.disks[0]!.path, `${broken.disks[0]!.path}.away`)
    expect(await discover()).toMatchObject({
      http: 200,
      found: 3,
      added: 2,
      vanished: 0,
      problem_count: 1,
      problems: [{ vm_name: 'broken', external_id: broken.uuid }],
    })
    const { http, ...body } = await call('GET', webPath)
    expect([http, body]).toMatchObject([
      200,
      {
        vm_context: {
          vm_name: oddName,
          source_id: sourceId,
          source_name: 'kvm',
          source_type: 'libvirt',
          external_id: web.uuid,
          status: 'ready',
          power_state: 'poweredOn',
          cpu_count: 2,
          memory_mb: 64,
          excluded_disks: [],
        },
        disks: [
          { disk_key: 'vda', format: 'qcow2', size_bytes: 8 * MIB, path: web.disks[0]!.path },
          { disk_key: 'vdb', size_bytes: 4 * MIB },
        ],
      },
    ])
    expect(await discover()).toMatchObject({ added: 0, updated: 0, vanished: 0 })
    await broken.destroy()
    await rm(`${broken.disks[0]!.path}.away`)
  })

  test('asked for twice at once, both hear of one look', async () => {
    const looks = await Promise.all([discover(), discover()])
    expect(looks).toMatchObject([
      { http: 200, found: 2 },
      { http: 200, found: 2 },
    ])
  })

  test('are backed up by name: a full, then what changed', async () => {
    const full = await backUp('incremental')
    expect(full).toMatchObject({ backup_type: 'full', full_reason: 'first_backup', consistency: 'crash', warnings: [] })
    expect(full['consistency_reason']).toEqual(expect.stringMatching(/./))
    expect(full['disks']).toMatchObject([{ full_reason: 'first_backup' }, { full_reason: 'first_backup' }])
    await web.write(0, 4 * MIB, noise(MIB, 2))
    const incremental = await backUp('incremental')
    expect(incremental).toMatchObject({ backup_type: 'incremental', full_reason: null, parent_backup_id: full['backup_id'] })
    expect(incremental['bytes_transferred']).toBeLessThan(2 * MIB)
    const chain = await call('GET', `/backups/chain?vm_name=${encodeURIComponent(oddName)}`)
    expect(chain['backups']).toMatchObject([
      { backup_type: 'full', full_reason: 'first_backup', disks: [{ disk_key: 'vda' }, { disk_key: 'vdb' }] },
      { backup_type: 'incremental', full_reason: null, consistency: 'crash', disks: [{ full_reason: null }, {}] },
    ])
  })

  test('leave out the disks that they are told to, and say so', async () => {
    expect(await call('PATCH', webPath, { excluded_disks: ['vdz'] })).toMatchObject({ http: 404, error_code: 'DISK_NOT_FOUND' })
    expect(await call('PATCH', webPath, { excluded_disks: ['vda', 'vdb'] })).toMatchObject({ error_code: 'INVALID_REQUEST' })
    const changed = await call('PATCH', webPath, { excluded_disks: ['vdb'] })
    expect(changed).toMatchObject({ http: 200, vm_context: { excluded_disks: ['vdb'] }, disks: [{ disk_key: 'vda' }] })
    expect(await discover()).toMatchObject({ updated: 0, problem_count: 0 })
    const backup = await backUp('incremental')
    expect(backup).toMatchObject({ backup_type: 'incremental', disk_count: 1 })
    expect(backup['warnings']).toEqual(
      expect.arrayContaining([
        { code: 'disk_excluded', disk: 'vdb', message: expect.any(String) },
        { code: 'disk_removed', disk: 'vdb', message: expect.any(String) },
      ]),
    )
    expect(await call('PATCH', webPath, { excluded_disks: [] })).toMatchObject({ vm_context: { excluded_disks: [] } })
    expect(await discover()).toMatchObject({ updated: 1 })
    expect(await call('GET', webPath)).toMatchObject({ total_disks: 2 })
  })

  test('vanish, cannot be backed up then, and come back under the id they had', async () => {
    const before = (await call('GET', '/vm-contexts/spare'))['vm_context'] as { context_id: string }
    await spare.ask('undefine')
    expect(await discover()).toMatchObject({ found: 1, vanished: 1 })
    const vanished = await call('GET', '/vm-contexts?status=vanished')
    expect(vanished['vm_contexts']).toMatchObject([{ context_id: before.context_id, status: 'vanished' }])
    const start = { vm_name: 'spare', repository_id: repositoryId, backup_type: 'full' }
    expect(await call('POST', '/backups', start)).toMatchObject({ http: 422, error_code: 'SOURCE_NOT_FOUND' })
    await spare.define()
    expect(await discover()).toMatchObject({ found: 2, updated: 1 })
    expect(await call('GET', '/vm-contexts/spare')).toMatchObject({
      vm_context: { context_id: before.context_id, status: 'ready' },
    })
  })

  test('keep their source while they have backups', async () => {
    expect(await call('DELETE', `/sources/${sourceId}`)).toMatchObject({ http: 409, error_code: 'SOURCE_IN_USE' })
  })
})

test('what an ended backup left is removed by reconcile, and what the next one needs is not', async () => {
  const names = async () => (await web.traces(folder.path)).checkpoints
  const inUse = await names()
  expect(inUse).toHaveLength(1)
  const { context_id: vm_context_id } = (await call('GET', webPath))['vm_context'] as { context_id: string }
  const [ended, foreign] = ['aaaaaa', 'bbbbbb'].map((random) => backupIdFor('web', new Date(), random))
  await insertBackup(holdfast.catalog, { id: ended!, vm_context_id, repository_id: repositoryId, status: 'failed' })
  for (const id of [ended, foreign]) await web.ask('checkpoint-create-as', `holdfast-${id}`)
  const stray = await sealCredentials(holdfast.catalog, api.keysFolder, { ssh_private_key: privateKey })
  await sql`update sealed_credentials set created_at = created_at - interval 2 hour`.execute(holdfast.catalog)
  const run = await holdfast.client.workflow.start('reconcile', {
    workflowId: 'reconcile-orphans',
    taskQueue: CONTROL_QUEUE,
    args: [{ heartbeatTimeoutMs: 3_000 }],
  })
  const repairs: Repair[] = await run.result()
  expect(repairs.map((repair) => repair.kind)).toEqual(expect.arrayContaining(['orphan', 'credentials']))
  expect((await names()).toSorted()).toEqual([...inUse, `holdfast-${foreign}`].toSorted())
  expect((await credentialRows()).map((row) => row.id)).not.toContain(stray)
  expect(await credentialRows()).toHaveLength(1)
})

test('a platform that is away is said to be, and none of its VMs has vanished', async () => {
  await libvirt.stop()
  for (const verb of ['test', 'discover']) {
    const answer = await call('POST', `/sources/${sourceId}/${verb}`)
    expect(answer).toMatchObject({ http: 503, error_code: 'SOURCE_UNAVAILABLE' })
    expect(await sourceNow()).toMatchObject({
      status: 'unreachable',
      error_code: 'SOURCE_UNAVAILABLE',
      error_message: answer['error'],
    })
  }
  expect(await call('GET', '/vm-contexts?status=vanished')).toMatchObject({ total_count: 0 })
})

test('the key that was given stands in no history, log, answer or clear column', async () => {
  const histories = await historiesOf(holdfast.client)
  expect(histories.length).toBeGreaterThan(15)
  expect(histories.some(({ text }) => text.includes('scratch_folder'))).toBe(true)
  const { catalog, home } = holdfast
  const tables = await sql<{
    name: string
  }>`select table_name as name from information_schema.tables where table_schema = database()`.execute(catalog)
  const places = [
    ...histories,
    { where: 'the answers', text: answers.join('') },
    { where: "the API's log", text: api.logs.join('') },
  ]
  places.push({ where: 'what the processes printed', text: holdfast.output() })
  for (const { name } of tables.rows) {
    const { rows } = await sql<Record<string, unknown>>`select * from ${sql.table(name)}`.execute(catalog)
    const cells = rows
      .flatMap((row) => Object.values(row))
      .map((cell) => (Buffer.isBuffer(cell) ? cell.toString('latin1') : JSON.stringify(cell)))
    places.push({ where: `table ${name}`, text: cells.join('\n') })
  }
  for (const file of await readdir(home, { recursive: true, withFileTypes: true })) {
    if (!file.isFile() || file.parentPath.includes('repository')) continue
    places.push({ where: file.name, text: await readFile(join(file.parentPath, file.name), 'latin1') })
  }
  for (const { where, text } of places) expect(text.includes(canary), where).toBe(false)
})
