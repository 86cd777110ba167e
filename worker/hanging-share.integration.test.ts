/** A share that hangs for ever, seen by a whole mover: others work on, and it can be stopped. */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createScenario, MIB, stepsOf, type BackupSteps, type Scenario } from '../test/backup-scenario.ts'
import { createTestApi, type TestApi } from '../test/api-app.ts'
import { createFaultFileSystem, type FaultFileSystem } from '../test/fault-file-system.ts'
import { createHoldfastProcesses, type HoldfastProcesses } from '../test/holdfast-processes.ts'
import { descendantsOf, stillRunning } from '../test/process-tree.ts'
import { requireTool } from '../test/requires.ts'
import { restoreWorkflowId } from '../temporal/workflow-ids.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-nbd')

let holdfast: HoldfastProcesses
let system: FaultFileSystem
let local: Scenario
let other: Scenario
let onShare: BackupSteps
let api: TestApi
const MONITOR_SECONDS = 5
const repositoryId = `repo-${randomBytes(4).toString('hex')}`

beforeAll(async () => {
  system = await createFaultFileSystem()
  const mover = new URL('../test/mover-with-bound-shares.ts', import.meta.url)
  holdfast = await createHoldfastProcesses(
    ['control', 'mover'],
    { HOLDFAST_MONITOR_INTERVAL_SECONDS: String(MONITOR_SECONDS) },
    { mover },
  )
  api = await createTestApi({ real: holdfast })
  local = await createScenario(holdfast, [4 * MIB])
  other = await createScenario(holdfast, [8 * MIB])
  await holdfast.operations.registerRepository({
    repositoryId,
    name: repositoryId,
    type: 'nfs',
    hostId: 'local',
    config: { server: 'test', export_path: system.folder, mount_options: [] },
    credentialsId: null,
  })
  const repositoryPath = `${holdfast.home}/mounts/${repositoryId}`
  onShare = stepsOf(holdfast, { ...other, repositoryId, repositoryPath })
})

afterAll(async () => {
  await system?.setFaults()
  await api?.drop()
  await runTool('umount', ['-l', `${holdfast?.home}/mounts/${repositoryId}`], { timeoutMs: 10_000, allowExitCodes: [1, 32] })
  await holdfast?.close()
  await system?.close()
})

const rowOf = () =>
  holdfast.catalog.selectFrom('backup_repositories').selectAll().where('id', '=', repositoryId).executeTakeFirstOrThrow()
const jobOf = (backupId: string) =>
  holdfast.catalog.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).executeTakeFirstOrThrow()

async function listingMs(path: string): Promise<number> {
  const began = performance.now()
  expect((await api.call('GET', path)).status).toBe(200)
  return performance.now() - began
}

async function stateOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3)
}

/** Threads that hang keep a process whose others have ended. */
async function threadStatesOf(pid: number): Promise<string> {
  const { stdout } = await runTool('sh', ['-c', `cat /proc/${pid}/task/*/stat 2>/dev/null || true`], { timeoutMs: 10_000 })
  return stdout
    .split('\n')
    .map((line) => line.slice(line.lastIndexOf(')') + 2, line.lastIndexOf(')') + 3))
    .join('')
}

it('is offline within two periods; lists are quick, and its backup is parked and goes on when it is back', async () => {
  const { backupId } = await onShare.start({ rateLimitBytesPerSecond: 2 * MIB })
  await onShare.reached(backupId, 2 * MIB)
  await system.setFaults({ hang: true })
  const periods = { timeout: 2 * MONITOR_SECONDS * 1000, interval: 100 }
  await expect.poll(async () => (await rowOf()).health, periods).toBe('offline')
  for (const path of ['/repositories', '/repositories/storage-summary', '/backups', '/alerts?state=open']) {
    expect(await listingMs(path), path).toBeLessThan(1_000)
  }
  await expect
    .poll(() => jobOf(backupId), { timeout: 60_000, interval: 200 })
    .toMatchObject({
      status: 'running',
      parked_reason: 'repository_unavailable',
    })
  const refused = await api.call('POST', '/backups', {
    body: { vm_name: local.vmName, repository_id: repositoryId, backup_type: 'full' },
  })
  expect(refused).toMatchObject({ status: 503, body: { error_code: 'REPO_UNAVAILABLE' } })

  await system.setFaults()
  expect(await onShare.ended(backupId)).toMatchObject({ status: 'completed', parked_reason: null })
  expect((await onShare.verify(backupId)).verification_status).toBe('passed')
  await expect.poll(async () => (await rowOf()).health, { timeout: 30_000, interval: 200 }).toBe('healthy')
  const { body } = await api.call<{ alerts: unknown[] }>('GET', `/alerts?state=open&repository_id=${repositoryId}`)
  expect(body.alerts).toEqual([])
}, 150_000)

it('holds neither backups to other repositories, and restores from them, nor the end of the mover, and the backup goes on when it is back', async () => {
  const { backupId } = await onShare.start({ rateLimitBytesPerSecond: 2 * MIB })
  await onShare.reached(backupId, 2 * MIB)
  const pid = holdfast.pid('mover')
  const children = await descendantsOf(pid)
  expect(children.length).toBeGreaterThan(0)
  await system.setFaults({ hang: true })
  const elsewhere = await local.backUp()
  expect(elsewhere).toMatchObject({ status: 'completed' })
  const restoreId = 'restore-elsewhere'
  const target = { targetPath: `${holdfast.home}/restored.raw`, targetFormat: 'raw' as const }
  await holdfast.operations.restoreDisk({ restoreId, backupId: elsewhere.id, diskIndex: 0, ...target })
  await holdfast.client.workflow.getHandle(restoreWorkflowId(restoreId)).result()

  const tookMs = await holdfast.stop('mover')
  expect(tookMs).toBeLessThan(20_000)
  expect(await stateOf(pid)).toBe('')
  // Only what the kernel does not let go of is left, and does nothing any more.
  for (const left of await stillRunning(children)) expect(await threadStatesOf(left.pid)).toContain('D')

  await system.setFaults()
  await expect.poll(() => stillRunning(children)).toEqual([])
  await holdfast.start('mover')
  expect(await onShare.ended(backupId)).toMatchObject({ status: 'completed' })
  const { processed_bytes: processedBytes } = await onShare.ended(backupId)
  expect(processedBytes).toBe(8 * MIB)
}, 120_000)
