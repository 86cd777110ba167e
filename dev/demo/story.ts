/** The demo's story, told through the API like any administrator would: full, crash, change, incremental, verify, restore, compare, single files. */
import { join } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../domain/errors.ts'
import { runTool } from '../../tools/run-tool.ts'
import { hasEnded } from './api-client.ts'
import type { ApiClient, BackupView } from './api-client.ts'
import { browsePoints } from './browsing.ts'
import { changeDemoVm, keepTruth, overwriteDatabase } from './demo-vm.ts'
import type { DemoVm } from './demo-vm.ts'
import { checkExt4, listExt4Folder, readExt4File } from './ext4.ts'
import { rateText, secondsText, sizeText } from './narrator.ts'
import type { Narrator } from './narrator.ts'
import type { VmPlatform } from './vm-platform.ts'

export interface StoryStage {
  api: ApiClient
  narrator: Narrator
  vm: DemoVm
  platform: VmPlatform
  /** Holds the VM's disks, the truth copies and the restored disks. */
  folder: string
  repositoryFolder: string
  /** Process id of the mover, to kill it; it changes when the supervisor starts another. */
  moverPid(): number
}

/** Slow enough that the mover can be killed in the middle of a transfer, fast enough not to bore. */
const FULL_RATE_BYTES_PER_SECOND = 64 * 1024 ** 2
const KILL_AT_BYTES = 96 * 1024 ** 2

/** Runs the whole story. Returns whether every comparison held; throws when a step fails. */
export async function tellStory(stage: StoryStage): Promise<boolean> {
  const { narrator, vm, platform } = stage
  const repositoryId = await registerRepository(stage)
  await registerVm(stage)

  narrator.step('Full backup, with a kill -9 of the mover in the middle')
  const truthOfFull = await keepTruth(vm, join(stage.folder, 'truth-full'))
  const full = await fullBackupWithCrash(stage, repositoryId)

  narrator.step('The VM lives on: files change, vanish and are overwritten with zeroes')
  const beforeChanges = await keepTruth(vm, join(stage.folder, 'truth-between'))
  for (const change of await changeDemoVm(stage.folder, vm)) narrator.fact(describeChange(change))
  for (const disk of vm.disks) await platform.writeDisk(disk, beforeChanges[disk.index]!)
  const truthOfIncremental = await keepTruth(vm, join(stage.folder, 'truth-incremental'))

  narrator.step('Incremental backup')
  const incremental = await backUp(stage, repositoryId, 'incremental')

  narrator.step('Verification: every block of both points is read back and compared with its SHA-256 of birth')
  await verify(stage, full)
  await verify(stage, incremental)

  narrator.step('Restore of both points, and comparison with the originals')
  const held = [
    await restoreAndCompare(stage, full, 'full', truthOfFull),
    await restoreAndCompare(stage, incremental, 'incremental', truthOfIncremental),
    await lookInside(stage),
    await browsePoints(stage, vm.disks[0], [
      { name: 'full', backupId: full, truth: truthOfFull[0]! },
      { name: 'incremental', backupId: incremental, truth: truthOfIncremental[0]! },
    ]),
    await lookForLeftovers(stage),
  ]
  return held.every(Boolean)
}

async function registerRepository(stage: StoryStage): Promise<string> {
  stage.narrator.step('A repository and a VM are registered')
  const answered = z.object({ repository_id: z.string(), storage: z.object({ available_bytes: z.number() }) })
  const answer = await stage.api.call('POST', '/repositories', answered, {
    name: 'Local disk',
    type: 'local',
    config: { path: stage.repositoryFolder },
  })
  stage.narrator.fact(`repository ${stage.repositoryFolder}, ${sizeText(answer.storage.available_bytes)} free`)
  return answer.repository_id
}

async function registerVm({ api, narrator, vm, platform }: StoryStage): Promise<void> {
  for (const line of await platform.register(api, vm)) narrator.fact(line)
}

async function fullBackupWithCrash(stage: StoryStage, repositoryId: string): Promise<string> {
  const started = Date.now()
  const backupId = await startBackup(stage, repositoryId, 'full', FULL_RATE_BYTES_PER_SECOND)
  const midway = await stage.api.follow(
    () => stage.api.backup(backupId),
    (view) => view.processed_bytes >= KILL_AT_BYTES || hasEnded(view),
    (view) => showProgress(stage.narrator, view),
  )
  if (hasEnded(midway))
    throw new HoldfastError(
      'INTERNAL',
      `The full ended (${midway.status}) before the mover could be killed: ${midway.error_message}`,
    )
  const pid = stage.moverPid()
  process.kill(pid, 'SIGKILL')
  stage.narrator.fact(
    `kill -9 ${pid}: the mover dies after ${sizeText(midway.processed_bytes)} of ${sizeText(midway.total_bytes)}`,
  )
  if (stage.platform.live) await writeMeanwhile(stage)
  const done = await finish(stage, backupId, started)
  stage.narrator.fact(`${done.consistency}-consistent: ${done.consistency_reason}`)
  for (const warning of done.warnings) stage.narrator.fact(`warning: ${warning.message}`)
  const resumed = done.disks.filter((disk) => disk.resumed_at_bytes > 0)
  for (const disk of resumed) {
    stage.narrator.fact(
      `disk ${disk.disk_index} went on at ${sizeText(disk.resumed_at_bytes)} with attempt ${disk.attempt}: nothing below was copied again`,
    )
  }
  if (resumed.length === 0) throw new HoldfastError('INTERNAL', 'No disk resumed from its journal after the mover was killed.')
  return backupId
}

/** What the guest writes after the snapshot must not be in the backup; the comparison with the truth would show it. */
async function writeMeanwhile({ narrator, vm, platform, folder }: StoryStage): Promise<void> {
  const before = await keepTruth(vm, join(folder, 'truth-meanwhile'))
  const bytes = await overwriteDatabase(vm)
  await platform.writeDisk(vm.disks[0], before[0]!)
  narrator.fact(`the VM lives, and overwrites ${sizeText(bytes)} of its database, which this backup must not show`)
}

async function backUp(stage: StoryStage, repositoryId: string, type: 'full' | 'incremental'): Promise<string> {
  const started = Date.now()
  const backupId = await startBackup(stage, repositoryId, type)
  await finish(stage, backupId, started)
  return backupId
}

async function startBackup(stage: StoryStage, repositoryId: string, type: string, rate?: number): Promise<string> {
  const answered = z.object({ backup_id: z.string(), backup_type: z.string(), estimated_size_bytes: z.number() })
  const answer = await stage.api.call('POST', '/backups', answered, {
    vm_name: stage.vm.name,
    repository_id: repositoryId,
    backup_type: type,
    ...(rate === undefined ? {} : { rate_limit_bytes_per_second: rate }),
  })
  stage.narrator.fact(
    `${answer.backup_id} (${answer.backup_type}) admitted, estimated at ${sizeText(answer.estimated_size_bytes)}`,
  )
  return answer.backup_id
}

async function finish(stage: StoryStage, backupId: string, started: number): Promise<BackupView> {
  const done = await stage.api.follow(
    () => stage.api.backup(backupId),
    hasEnded,
    (view) => showProgress(stage.narrator, view),
  )
  if (done.status !== 'completed') {
    throw new HoldfastError('INTERNAL', `Backup ${backupId} ended as ${done.status}: ${done.error_code} ${done.error_message}`)
  }
  const took = Date.now() - started
  stage.narrator.fact(
    `${done.status} in ${secondsText(took)}: ${sizeText(done.bytes_transferred)} of ${sizeText(done.total_bytes)} written, ${sizeText(done.size_bytes)} on disk (zstd)`,
  )
  return done
}

async function verify(stage: StoryStage, backupId: string): Promise<void> {
  const started = Date.now()
  await stage.api.call('POST', `/backups/${backupId}/verify`, z.object({ success: z.literal(true) }))
  const view = await stage.api.follow(
    () => stage.api.backup(backupId),
    (backup) => backup.verification_status !== 'unverified',
  )
  if (view.verification_status !== 'passed') throw new HoldfastError('INTERNAL', `${backupId}: ${view.verification_message}`)
  const took = Date.now() - started
  stage.narrator.fact(`${backupId}: passed in ${secondsText(took)}, ${rateText(view.total_bytes, took)} of disk`)
}

async function restoreAndCompare(stage: StoryStage, backupId: string, name: string, truth: string[]): Promise<boolean> {
  let held = true
  for (const disk of stage.vm.disks) {
    const targetPath = restoredPath(stage, name, disk.index)
    const started = Date.now()
    const answered = z.object({ restore_id: z.string() })
    const { restore_id: restoreId } = await stage.api.call('POST', `/backups/${backupId}/restore`, answered, {
      disk_index: disk.index,
      target_path: targetPath,
      format: 'raw',
    })
    const done = await stage.api.follow(() => stage.api.restore(restoreId), hasEnded)
    if (done.status !== 'completed')
      throw new HoldfastError('INTERNAL', `Restore ${restoreId} ended as ${done.status}: ${done.error_message}`)
    const took = Date.now() - started
    const same = await sameBytes(truth[disk.index]!, targetPath)
    held &&= same
    stage.narrator.fact(
      `${name}, disk ${disk.index}: restored in ${secondsText(took)}; ${same ? 'identical to the original, byte for byte' : 'DIFFERS FROM THE ORIGINAL'}`,
    )
  }
  return held
}

/** Looks into the restored file systems with e2fsprogs: what the story changed must show, at the right point in time. */
async function lookInside(stage: StoryStage): Promise<boolean> {
  stage.narrator.step('A look into the restored file systems')
  const root = stage.vm.disks[0].root
  const inFull = { ...root, image: restoredPath(stage, 'full', 0) }
  const inIncremental = { ...root, image: restoredPath(stage, 'incremental', 0) }
  const motd = [await readExt4File(inFull, '/etc/motd'), await readExt4File(inIncremental, '/etc/motd')]
  const logs = [await listExt4Folder(inFull, '/var/log'), await listExt4Folder(inIncremental, '/var/log')]
  stage.narrator.fact(`/etc/motd reads "${motd[0]?.trim()}" in the full and "${motd[1]?.trim()}" in the incremental`)
  stage.narrator.fact(`/var/log holds [${logs[0]?.join(', ')}] in the full and [${logs[1]?.join(', ')}] in the incremental`)
  await checkPartition(stage, inFull.image)
  await checkPartition(stage, inIncremental.image)
  stage.narrator.fact('both file systems are clean (e2fsck)')
  return (
    motd[0] === 'first light\n' && motd[1] === 'second light\n' && logs[0]!.includes('web.log') && !logs[1]!.includes('web.log')
  )
}

async function lookForLeftovers({ narrator, platform }: StoryStage): Promise<boolean> {
  const found = await platform.leftovers()
  for (const line of found) narrator.fact(`LEFT BEHIND: ${line}`)
  if (platform.live && found.length === 0) narrator.fact('the domain is as it was: no backup job and no scratch file is left')
  return found.length === 0
}

async function checkPartition(stage: StoryStage, image: string): Promise<void> {
  const root = stage.vm.disks[0].root
  const cut = join(stage.folder, 'partition.raw')
  const skip = `skip=${root.offsetBytes / 1024 ** 2}`
  const count = `count=${root.sizeBytes / 1024 ** 2}`
  await runTool('dd', [`if=${image}`, `of=${cut}`, 'bs=1M', skip, count, 'conv=sparse', 'status=none'], { timeoutMs: 300_000 })
  await checkExt4(cut)
}

async function sameBytes(original: string, restored: string): Promise<boolean> {
  const { exitCode } = await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', original, restored], {
    timeoutMs: 600_000,
    allowExitCodes: [0, 1],
  })
  if (exitCode !== 0) return false
  // A second opinion that knows nothing of images.
  const cmp = await runTool('cmp', ['--silent', original, restored], { timeoutMs: 600_000, allowExitCodes: [0, 1] })
  return cmp.exitCode === 0
}

function restoredPath(stage: StoryStage, name: string, disk: number): string {
  return join(stage.folder, `restored-${name}-disk-${disk}.raw`)
}

function describeChange(change: { description: string; bytes: number }): string {
  return change.bytes === 0 ? change.description : `${change.description} (${sizeText(change.bytes)})`
}

function showProgress(narrator: Narrator, view: BackupView): void {
  const share = view.total_bytes === 0 ? 0 : (view.processed_bytes / view.total_bytes) * 100
  narrator.progress(`${share.toFixed(0).padStart(3)} %  ${sizeText(view.processed_bytes)} of ${sizeText(view.total_bytes)}`)
}
