/** Restores whose target lies where it may hang: on a share of somebody, while the repository itself is well. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import type { RestoreRequest } from '../disks/restore.ts'
import { backUpImage, MIB, noise, writeImage } from '../test/disk-backups.ts'
import { createFaultFileSystem, type FaultFileSystem } from '../test/fault-file-system.ts'
import { createHostedShares, type HostedShares } from '../test/hosted-shares.ts'
import { impatientDeadlines } from '../test/impatient-deadlines.ts'
import { descendantsOf } from '../test/process-tree.ts'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'

requireTool('qemu-nbd')

const sizeBytes = 4 * MIB
const unavailable = { code: 'REPO_UNAVAILABLE', retryable: true, message: expect.stringContaining('folder for restores') }

let system: FaultFileSystem
let shares: HostedShares
beforeAll(async () => {
  system = await createFaultFileSystem()
  shares = await createHostedShares()
})
afterEach(() => system.setFaults())
afterAll(async () => {
  await system.setFaults()
  await shares.close()
  await system.close()
})

const targets = () => shares.host.targets
const check = (name: string): Promise<void> => targets().checkRestoreTarget(join(system.folder, name), 'restore-1', [])

/** A restore of a disk whose backup lies on a local disk. */
async function restoreOf(name: string): Promise<RestoreRequest> {
  const folder = await temporaryFolder()
  const imagePath = `${folder}/disk.raw`
  await writeImage(imagePath, sizeBytes, [[0, noise(sizeBytes, 1)]])
  const { links } = await backUpImage({ folder, backupId: 'backup-1', imagePath, sizeBytes })
  const checkpoints = { checkpointIntervalMs: 50, checkpointIntervalBytes: MIB, runFolder: `${folder}/run` }
  return { restoreId: 'restore-1', links, targetPath: join(system.folder, name), targetFormat: 'raw', ...checkpoints }
}

async function openLocal(): Promise<ReturnType<HostedShares['open']>> {
  const config = { path: await temporaryFolder() }
  return shares.host.open({ id: 'repo-local', type: 'local', config, credentialsId: null })
}

it('many tries on one that hangs take nothing from this process, and a short time', async () => {
  await system.setFaults({ hang: true })
  const began = performance.now()
  const tries = Array.from({ length: 40 }, (_, index) => check(`disk-${index}.raw`))
  for (const result of await Promise.allSettled(tries)) expect(result).toMatchObject({ status: 'rejected', reason: unavailable })
  const { operationMs, questionMs } = impatientDeadlines
  expect(performance.now() - began).toBeLessThan(operationMs + questionMs + 4_000)
  // Of the threads that all file operations share, none is held.
  const own = join(await temporaryFolder(), 'file')
  await writeFile(own, 'content')
  expect(await readFile(own, 'utf8')).toBe('content')
  await expect(targets().discardRestore(join(system.folder, 'disk-1.raw'), 'restore-1')).rejects.toMatchObject(unavailable)
  await system.setFaults()
  await expect.poll(() => check('disk-1.raw').catch((error: unknown) => error)).toBeUndefined()
})

it('a repository that hangs is not touched by the check of a target that lies elsewhere', async () => {
  await mkdir(join(system.behind, 'repository'))
  await system.setFaults({ hang: true })
  const target = join(await temporaryFolder(), 'disk.raw')
  const began = performance.now()
  await targets().checkRestoreTarget(target, 'restore-1', [join(system.folder, 'repository')])
  expect(performance.now() - began).toBeLessThan(1_000)
})

it('says what it always said where the target answers, and leaves no process', async () => {
  await writeFile(join(system.behind, 'taken.raw'), '')
  await expect(check('taken.raw')).rejects.toMatchObject({ code: 'RESTORE_TARGET_EXISTS' })
  await expect(check('missing/disk.raw')).rejects.toMatchObject({ code: 'RESTORE_TARGET_INVALID' })
  await expect
    .poll(async () => (await descendantsOf(process.pid)).map(({ commandLine }) => commandLine).join('\n'))
    .not.toContain('restores-')
})

it('a restore that hangs in its target can be cancelled, and goes on when that answers', async () => {
  const request = await restoreOf('restored.raw')
  const { disks } = await openLocal()
  await system.setFaults({ operations: ['write'], hang: true })
  const stop = new AbortController()
  const reason = new Error('not wanted any more')
  const restoring = disks.restoreDiskTo(request, { signal: stop.signal }).catch((error: unknown) => error)
  await delay(1_000)
  const began = performance.now()
  stop.abort(reason)
  expect(await restoring).toBe(reason)
  expect(performance.now() - began).toBeLessThan(impatientDeadlines.graceMs + impatientDeadlines.questionMs + 4_000)
  await system.setFaults()
  const again = (): Promise<unknown> => disks.restoreDiskTo(request).catch((error: unknown) => error)
  await expect.poll(again, { interval: 200 }).toMatchObject({ restoredBytes: sizeBytes })
  expect((await readFile(join(system.behind, 'restored.raw'))).equals(noise(sizeBytes, 1))).toBe(true)
})
