/** Disk work in the process of a repository, while its share hangs, fails, or the process dies. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { serveImage } from '../disks/serve.ts'
import type { TransferProgress, TransferRequest } from '../disks/transfer.ts'
import { vmFolderName } from '../domain/ids.ts'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import { MIB, noise, publish, transferRequest, writeImage } from '../test/disk-backups.ts'
import { createFaultFileSystem, type Fault, type FaultFileSystem } from '../test/fault-file-system.ts'
import { createHostedShares, type HostedShares } from '../test/hosted-shares.ts'
import { impatientDeadlines } from '../test/impatient-deadlines.ts'
import { requireTool } from '../test/requires.ts'
import { mountAt, readMountInfo } from '../tools/mount-info.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'

requireTool('qemu-nbd')

const id = `repo-moves-${process.pid}`
const sizeBytes = 8 * MIB

let system: FaultFileSystem
let shares: HostedShares
let repository: HostedRepository
let count = 0
beforeAll(async () => {
  system = await createFaultFileSystem()
  shares = await createHostedShares()
  repository = shares.open(id, system.folder)
  await repository.initialize()
})
afterEach(() => system.setFaults())
afterAll(async () => {
  await shares.close()
  await system.close()
})

/** A transfer that takes some seconds, with a checkpoint every MiB. */
async function slowTransfer(): Promise<TransferRequest> {
  const local = await temporaryFolder()
  const raw = `${local}/disk.raw`
  await writeImage(raw, sizeBytes, [[0, noise(sizeBytes, 1)]])
  const served = await serveImage(raw, 'raw', { runFolder: `${local}/run` })
  onTestFinished(() => served.close())
  const source = { endpoint: served.endpoint, sizeBytes, changes: { type: 'compare-hashes' as const } }
  const vmFolder = vmFolderName('vm', 'ctx-01k9zq3v7m5t8w2x4y6z0a1b2c')
  const { folder } = await repository.createBackup({ vmFolder, backupId: `backup-vm-20260101T000100Z-abc00${++count}` })
  const slow = { rateLimitBytesPerSecond: 4 * MIB, checkpointIntervalBytes: MIB, runFolder: `${local}/run` }
  const request = await transferRequest({ folder: local, backupId: 'unused', source, change: slow })
  return { ...request, target: { ...request.target, folder } }
}

/** Does something once the transfer is past a checkpoint with more to come. */
function underWay(act: () => unknown): (progress: TransferProgress) => void {
  let acted = false
  return (progress) => {
    if (acted || progress.checkpointBytes < 2 * MIB) return
    acted = true
    act()
  }
}

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => null,
    (error: unknown) => error,
  )
}

/** Goes on, as the next attempt does, and reads everything back. Returns where it went on. */
async function finishAndVerify(request: TransferRequest): Promise<number> {
  const { disks } = repository
  const again = { ...request, rateLimitBytesPerSecond: null }
  const done = (): Promise<unknown> => disks.transferDisk(again).catch((error: unknown) => error)
  await expect.poll(done, { interval: 200 }).toMatchObject({ processedBytes: sizeBytes })
  const result = await disks.transferDisk(again)
  const folder = request.target.folder.slice(0, request.target.folder.lastIndexOf('/'))
  const backupId = request.target.folder.slice(folder.length + 1, -'.partial'.length)
  const links = await publish({ folder, backupId, source: request.source }, result)
  expect(await disks.verifyDisk({ links, runFolder: request.runFolder })).toEqual({ verifiedBytes: sizeBytes, damage: [] })
  return result.resumedAtBytes
}

describe('a transfer to a share', () => {
  it('that hangs is given up without being cancelled, goes on when the share is back, and is sound', async () => {
    const request = await slowTransfer()
    const began = performance.now()
    const hang = underWay(() => system.setFaults({ hang: true }))
    const error = await failureOf(repository.disks.transferDisk(request, { onProgress: hang }))
    expect(error).toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
    const { quietMs, questionMs, giveUpMs } = impatientDeadlines
    expect(performance.now() - began).toBeLessThan(quietMs + questionMs + giveUpMs + 8_000)
    // The next attempt is refused while the first one's process still hangs.
    expect(await failureOf(repository.disks.transferDisk(request))).toMatchObject({ code: 'REPO_UNAVAILABLE' })
    await system.setFaults()
    expect(await finishAndVerify(request)).toBeGreaterThanOrEqual(2 * MIB)
  })

  it('that hangs can be cancelled, with the reason of whoever cancelled it', async () => {
    const request = await slowTransfer()
    const stop = new AbortController()
    const reason = new Error('not wanted any more')
    let cancelledAt = 0
    const hang = underWay(async () => {
      await system.setFaults({ hang: true })
      await delay(200)
      cancelledAt = performance.now()
      stop.abort(reason)
    })
    expect(await failureOf(repository.disks.transferDisk(request, { onProgress: hang, signal: stop.signal }))).toBe(reason)
    const { graceMs, questionMs } = impatientDeadlines
    expect(performance.now() - cancelledAt).toBeLessThan(graceMs + questionMs + 2_000)
    await system.setFaults()
    expect(await finishAndVerify(request)).toBeGreaterThanOrEqual(2 * MIB)
  })

  it('leaves a checkpoint when it is cancelled in order', async () => {
    const request = await slowTransfer()
    const stop = new AbortController()
    const cancel = underWay(() => stop.abort(new Error('later')))
    expect(await failureOf(repository.disks.transferDisk(request, { onProgress: cancel, signal: stop.signal }))).toMatchObject({
      message: 'later',
    })
    expect(await finishAndVerify(request)).toBeGreaterThanOrEqual(2 * MIB)
  })

  it('goes on when its process was killed', async () => {
    const request = await slowTransfer()
    const kill = underWay(() => process.kill(shares.host.processOf(id) ?? 0, 'SIGKILL'))
    const error = await failureOf(repository.disks.transferDisk(request, { onProgress: kill }))
    expect(error).toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
    expect(await finishAndVerify(request)).toBeGreaterThanOrEqual(2 * MIB)
  })

  it.for<[NonNullable<Fault['errno']>, string, boolean]>([
    ['EIO', 'DISK_WRITE_FAILED', true],
    ['ESTALE', 'DISK_WRITE_FAILED', true],
    ['ENOSPC', 'INSUFFICIENT_STORAGE', false],
    ['EROFS', 'DISK_WRITE_FAILED', true],
  ])('meets %s as %s, and goes on afterwards', async ([errno, code, retryable]) => {
    const request = await slowTransfer()
    const fail = underWay(() => system.setFaults({ operations: ['writes'], errno }))
    const error = await failureOf(repository.disks.transferDisk(request, { onProgress: fail }))
    expect(error).toMatchObject({ code, retryable })
    await system.setFaults()
    // What was lost would be told to the next attempt, too.
    const isMounted = async () => mountAt(await readMountInfo(), repository.root) !== null
    await expect.poll(isMounted).toBe(code !== 'DISK_WRITE_FAILED')
    expect(await finishAndVerify(request)).toBeGreaterThanOrEqual(2 * MIB)
  })
})
