/** Immutable backups through the whole product, on a real file system: locked when published, kept from everybody, looked after, let go. */
import { existsSync } from 'node:fs'
import { readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Selectable } from 'kysely'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { recordLocks } from '../db/queries/backup-locks.ts'
import type { BackupJobsTable } from '../db/schema.ts'
import { lockEnd } from '../domain/immutability.ts'
import type { ImmutabilitySettings } from '../domain/immutability.ts'
import { vmFolderName } from '../domain/ids.ts'
import { LOCK_ATTESTATION_SCHEDULE_ID, attestLocksWorkflowId, vmChainWorkflowId } from '../temporal/workflow-ids.ts'
import { createScenario, MIB } from '../test/backup-scenario.ts'
import type { Scenario } from '../test/backup-scenario.ts'
import { lockBriefly, lockEnded } from '../test/brief-lock.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { recordHistory } from '../test/recorded-histories.ts'
import { requireTool } from '../test/requires.ts'
import { createSmallDisk } from '../test/small-disk.ts'
import type { SmallDisk } from '../test/small-disk.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { immutableAmong } from '../tools/chattr.ts'
import { runTool } from '../tools/run-tool.ts'

for (const program of ['qemu-nbd', 'chattr', 'lsattr', 'mkfs.ext4']) requireTool(program)

const FILES = ['disk-0.blocks', 'disk-0.qcow2', 'manifest.json']
const immutability: ImmutabilitySettings = { method: 'linux_chattr', retentionPeriodDays: 30 }

let ext4: SmallDisk
let holdfast: HoldfastProcesses
let vm: Scenario
let full: Selectable<BackupJobsTable>
let increment: Selectable<BackupJobsTable>

beforeAll(async () => {
  ext4 = await createSmallDisk(160 * MIB)
  holdfast = await createHoldfastProcesses()
  vm = await createScenario(holdfast, [2 * MIB], join(ext4.path, 'immutable'))
  await holdfast.operations.changeRepository({ ...repositoryOf(vm), settings: { immutability } })
})

afterAll(async () => {
  await holdfast?.close()
  await ext4?.remove()
})

const repositoryOf = ({ repositoryId }: Scenario) => ({ repositoryId, hostId: 'local' })

async function rowOf(backupId: string): Promise<Selectable<BackupJobsTable>> {
  return holdfast.catalog.selectFrom('backup_jobs').selectAll().where('id', '=', backupId).executeTakeFirstOrThrow()
}

async function lockedIn(backupId: string): Promise<string[]> {
  return [...(await immutableAmong(vm.folderOf(backupId), [...FILES, '.']))].sort()
}

async function setRow(backupId: string, change: Partial<Pick<Selectable<BackupJobsTable>, 'locked_until' | 'completed_at'>>) {
  await holdfast.catalog.updateTable('backup_jobs').set(change).where('id', '=', backupId).execute()
}

async function openAlerts() {
  return holdfast.catalog
    .selectFrom('alerts')
    .selectAll()
    .where('kind', '=', 'immutability_broken')
    .where('resolved_at', 'is', null)
    .execute()
}

test('a place that enforces nothing is refused, with the reason', async () => {
  const path = await temporaryFolder()
  await runTool('mount', ['-t', 'tmpfs', 'tmpfs', path], { timeoutMs: 10_000 })
  onTestFinished(async () => void (await runTool('umount', ['--lazy', path], { timeoutMs: 10_000 })))
  const place = { repositoryId: 'repo-tmpfs', name: 'tmpfs', type: 'local', hostId: 'local', config: { path } } as const
  const refusal = await failureOf(holdfast.operations.registerRepository({ ...place, settings: { immutability } }))
  expect(refusal.code).toBe('IMMUTABILITY_UNSUPPORTED')
  expect(refusal.message).toContain('tmpfs keeps everything in memory')
})

test('backups are locked when they are published, with all that they need, for as long as the newest', async () => {
  full = await vm.backUp()
  expect(full.locked_until).toEqual(lockEnd(full.completed_at!, immutability))
  await recordHistory(holdfast.client, 'backup-locked', { workflowId: vmChainWorkflowId(vm.vmContextId) })
  await writeFile(vm.images[0]!, Buffer.alloc(MIB, 7), { flag: 'r+' })
  increment = await vm.backUp({ backupType: 'incremental' })
  expect(increment.parent_backup_id).toBe(full.id)
  full = await rowOf(full.id)
  expect(increment.locked_until).toEqual(lockEnd(increment.completed_at!, immutability))
  expect(full.locked_until).toEqual(increment.locked_until)
  for (const { id } of [full, increment]) expect(await lockedIn(id)).toEqual(['.', ...FILES])
  // Reading is all that is left, and works.
  expect(await vm.verify(increment.id)).toMatchObject({ verification_status: 'passed' })
})

describe('before its date nobody deletes it', () => {
  const expectKept = async (): Promise<void> => {
    expect(await lockedIn(increment.id)).toEqual(['.', ...FILES])
    const pins = await holdfast.catalog.selectFrom('backup_pins').selectAll().execute()
    expect(pins, 'the mark of a refused deletion').toEqual([])
  }
  const refusal = () => failureOf(holdfast.operations.deleteBackup(vm.vmContextId, increment.id))

  test('because the catalog says so', async () => {
    expect(await refusal()).toMatchObject({
      code: 'IMMUTABLE_RETENTION_ACTIVE',
      details: { backup_id: increment.id, retention_expires_at: increment.locked_until!.toISOString() },
    })
    await recordHistory(holdfast.client, 'delete-retained', { workflowId: vmChainWorkflowId(vm.vmContextId) })
    await expectKept()
  })

  test('because its own record says so, when the catalog has forgotten it', async () => {
    await setRow(increment.id, { locked_until: null, completed_at: new Date(0) })
    expect(await refusal()).toMatchObject({
      code: 'IMMUTABLE_RETENTION_ACTIVE',
      details: { retention_expires_at: increment.locked_until!.toISOString() },
    })
    expect((await rowOf(increment.id)).locked_until).toEqual(increment.locked_until)
    await expectKept()
  })

  test('because a file of it refuses, when nobody knows of the lock and it was never finished: nothing of it is touched', async () => {
    // As a locker leaves it that is killed while it locks, before immutability is switched off.
    const unfinished = ['disk-0.qcow2', 'manifest.json', '.'].map((name) => join(vm.folderOf(increment.id), name))
    await runTool('chattr', ['-i', ...unfinished], { timeoutMs: 10_000 })
    await setRow(increment.id, { locked_until: null })
    await holdfast.operations.changeRepository({ ...repositoryOf(vm), settings: { immutability: null } })
    expect(await refusal()).toMatchObject({
      code: 'IMMUTABLE_RETENTION_ACTIVE',
      details: { backup_id: increment.id, retention_expires_at: increment.locked_until!.toISOString() },
    })
    expect(await readdir(vm.folderOf(increment.id))).toEqual(FILES)
    // From then on it is known, and the next look finishes what was begun.
    expect((await rowOf(increment.id)).locked_until).toEqual(increment.locked_until)
    expect(await holdfast.operations.attestLocks(repositoryOf(vm))).toMatchObject({
      broken: [{ backupId: increment.id, relocked: true }],
    })
    await expectKept()
    await holdfast.operations.changeRepository({ ...repositoryOf(vm), settings: { immutability } })
    await setRow(increment.id, { completed_at: increment.completed_at })
  })

  test('and nothing is restored over it, and its repository is not given up', async () => {
    const targetPath = join(vm.folderOf(full.id), 'disk-0.qcow2')
    const restore = { restoreId: 'restore-over', backupId: full.id, diskIndex: 0, targetPath, targetFormat: 'qcow2' as const }
    expect((await failureOf(holdfast.operations.restoreDisk(restore))).code).toBe('RESTORE_TARGET_INVALID')
    const forgotten = holdfast.operations.deleteRepository(repositoryOf(vm), { force: true })
    expect((await failureOf(forgotten)).code).toBe('REPO_IN_USE')
    await expectKept()
  })

  test('nor root, by hand', async () => {
    const manifest = await readFile(join(vm.folderOf(full.id), 'manifest.json'))
    const attempts = [
      ['rm', '-rf', vm.repositoryPath],
      ['mv', vm.folderOf(full.id), join(ext4.path, 'elsewhere')],
      ['truncate', '--size=0', join(vm.folderOf(full.id), 'manifest.json')],
      ['dd', 'if=/dev/zero', `of=${join(vm.folderOf(full.id), 'disk-0.qcow2')}`, 'count=1', 'conv=notrunc'],
    ]
    const marker = await readFile(join(vm.repositoryPath, 'holdfast-repository.json'))
    for (const [program = '', ...args] of attempts) {
      expect((await failureOf(runTool(program, args, { timeoutMs: 30_000 }))).message).toContain('Operation not permitted')
    }
    // What is not locked, rm has taken.
    await writeFile(join(vm.repositoryPath, 'holdfast-repository.json'), marker)
    expect(await readFile(join(vm.folderOf(full.id), 'manifest.json'))).toEqual(manifest)
    expect(await vm.verify(increment.id)).toMatchObject({ verification_status: 'passed' })
  })
})

describe('the attestation', () => {
  test('is a schedule', async () => {
    const { spec, action } = await holdfast.client.schedule.getHandle(LOCK_ATTESTATION_SCHEDULE_ID).describe()
    expect(spec.intervals).toMatchObject([{ every: 24 * 60 * 60 * 1000 }])
    expect(action).toMatchObject({ workflowType: 'attestLocks' })
  })

  test('finds that everything holds', async () => {
    expect(await holdfast.operations.attestLocks(repositoryOf(vm))).toEqual({ checked: 2, broken: [] })
    await recordHistory(holdfast.client, 'attest-locks', { workflowId: attestLocksWorkflowId(vm.repositoryId) })
    const row = await holdfast.catalog
      .selectFrom('backup_repositories')
      .select('attested_at')
      .where('id', '=', vm.repositoryId)
      .executeTakeFirstOrThrow()
    expect(row.attested_at).not.toBeNull()
    expect(await openAlerts()).toEqual([])
  })

  test('notices a lock that was taken off behind its back, sets it again, and says so until it holds', async () => {
    await runTool('chattr', ['-i', join(vm.folderOf(full.id), 'disk-0.qcow2'), vm.folderOf(full.id)], { timeoutMs: 10_000 })
    const missing = ['disk-0.qcow2 is not locked', 'the folder is not locked']
    expect(await holdfast.operations.attestLocks(repositoryOf(vm))).toEqual({
      checked: 2,
      broken: [{ backupId: full.id, missing, relocked: true }],
    })
    await recordHistory(holdfast.client, 'attest-locks-broken', { workflowId: attestLocksWorkflowId(vm.repositoryId) })
    expect(await lockedIn(full.id)).toEqual(['.', ...FILES])
    const [alert] = await openAlerts()
    expect(alert).toMatchObject({ repository_id: vm.repositoryId, severity: 'critical' })
    expect(alert?.message).toContain(`${full.id} (disk-0.qcow2 is not locked, the folder is not locked; locked again)`)

    expect((await holdfast.operations.attestLocks(repositoryOf(vm))).broken).toEqual([])
    expect(await openAlerts()).toEqual([])
  })

  test('locks without an alert what nobody has locked yet', async () => {
    await holdfast.operations.changeRepository({
      ...repositoryOf(vm),
      settings: { immutability: { ...immutability, retentionPeriodDays: 60 } },
    })
    const until = lockEnd(increment.completed_at!, { retentionPeriodDays: 60 })
    const before = (await rowOf(full.id)).locked_until

    // Without a free block there is no room for a record: that is said, and nothing is claimed.
    const filler = await ext4.fill()
    onTestFinished(() => rm(filler, { force: true }))
    const { broken } = await holdfast.operations.attestLocks(repositoryOf(vm))
    expect(Object.fromEntries(broken.map(({ backupId, relocked }) => [backupId, relocked]))).toEqual({
      [full.id]: false,
      [increment.id]: false,
    })
    const [alert] = await openAlerts()
    expect(alert?.message).toMatch(/could not be locked: ENOSPC.* Remove what keeps them from being locked/)
    expect(alert?.message, 'nobody did this').not.toContain('who did')
    expect((await rowOf(full.id)).locked_until).toEqual(before)
    await rm(filler)

    expect(await holdfast.operations.attestLocks(repositoryOf(vm))).toEqual({ checked: 2, broken: [] })
    expect(await openAlerts()).toEqual([])
    expect((await rowOf(full.id)).locked_until).toEqual(until)
    // Milder rules take nothing back.
    await holdfast.operations.changeRepository({ ...repositoryOf(vm), settings: { immutability } })
    expect((await holdfast.operations.attestLocks(repositoryOf(vm))).broken).toEqual([])
    expect((await rowOf(full.id)).locked_until).toEqual(until)
  })
})

test('after its date a backup is unlocked and deleted by the product itself', async () => {
  const short = await createScenario(holdfast, [MIB], join(ext4.path, 'short'))
  const [known, unfinished] = [await short.backUp(), await short.backUp({ backupType: 'full' })]
  const { repositoryPath: root, repositoryId } = short
  const vmFolder = vmFolderName(short.vmName, short.vmContextId)
  const ends = await Promise.all([known, unfinished].map(({ id }) => lockBriefly({ root, repositoryId, vmFolder, backupId: id })))
  await recordLocks(holdfast.catalog, [{ backupId: known.id, until: ends[0]! }])
  await Promise.all(ends.map(lockEnded))
  // Of the other nobody was told, and its lock was not finished.
  const folder = short.folderOf(unfinished.id)
  await runTool('chattr', ['-i', folder, join(folder, 'manifest.json')], { timeoutMs: 10_000 })
  for (const { id } of [known, unfinished]) {
    await holdfast.operations.deleteBackup(short.vmContextId, id)
    expect(existsSync(short.folderOf(id))).toBe(false)
  }
  for (const left of ['locks', join('vms', vmFolder)]) expect(existsSync(join(root, left)), left).toBe(false)
})
