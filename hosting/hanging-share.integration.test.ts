/** What a share that stops answering does to its own repository, and what it does not do to others. */
import { readdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import { createFaultFileSystem, type FaultFileSystem } from '../test/fault-file-system.ts'
import { createHostedShares, shareRecord, type HostedShares } from '../test/hosted-shares.ts'
import { impatientDeadlines } from '../test/impatient-deadlines.ts'
import { mountAt, readMountInfo } from '../tools/mount-info.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'

const id = `repo-hangs-${process.pid}`
const unavailable = { code: 'REPO_UNAVAILABLE', retryable: true }
/** A busy machine answers late. */
const SLACK_MS = 1_500

let system: FaultFileSystem
let shares: HostedShares
let repository: HostedRepository
beforeAll(async () => {
  system = await createFaultFileSystem()
  shares = await createHostedShares()
  repository = shares.open(id, system.folder)
  await repository.initialize()
})
afterEach(async () => {
  await system.setFaults()
  await vi.waitFor(() => repository.storage(), { timeout: 30_000, interval: 50 })
})
afterAll(async () => {
  await shares.close()
  await system.close()
})

async function timed<T>(work: Promise<T>): Promise<{ error: unknown; tookMs: number }> {
  const began = performance.now()
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  )
  return { error, tookMs: performance.now() - began }
}

describe('a share that hangs', () => {
  it('is unavailable within the deadline, and then at once; and answers again by itself', async () => {
    await system.setFaults({ hang: true })
    const first = await timed(repository.storage())
    expect(first.error).toMatchObject({ ...unavailable, details: { repository_id: id } })
    expect(first.tookMs).toBeLessThan(impatientDeadlines.questionMs + SLACK_MS)
    const next = await Promise.all([
      timed(repository.storage()),
      timed(repository.listBackups()),
      timed(repository.keepReserve()),
    ])
    for (const { error, tookMs } of next) {
      expect(error).toMatchObject(unavailable)
      expect(tookMs).toBeLessThan(500)
    }
    await system.setFaults()
    await expect.poll(() => repository.storage().catch(() => null)).toMatchObject({ writable: true })
    expect(shares.told.some((text) => text.includes('answers again') || text.includes('does not answer'))).toBe(true)
  })

  it('does not hold other repositories, nor this process', async () => {
    await system.setFaults({ hang: true })
    const other = shares.host.open({
      id: 'repo-other',
      type: 'local',
      config: { path: await temporaryFolder() },
      credentialsId: null,
    })
    await other.initialize()
    const hanging = timed(repository.listBackups())
    expect((await timed(other.storage())).error).toBeNull()
    const { error, tookMs } = await hanging
    expect(error).toMatchObject(unavailable)
    const { operationMs, questionMs } = impatientDeadlines
    expect(tookMs).toBeLessThan(operationMs + questionMs + 2 * SLACK_MS)
  })

  it('has its process given up, and another begins when the kernel lets go of it', async () => {
    await system.setFaults({ hang: true })
    await timed(repository.storage())
    // Longer than anybody waits for it: it is killed by now, and stays, because it hangs.
    await delay(impatientDeadlines.giveUpMs + 2_000)
    const { error, tookMs } = await timed(repository.storage())
    expect(error).toMatchObject(unavailable)
    expect(tookMs).toBeLessThan(impatientDeadlines.patienceMs + impatientDeadlines.questionMs + SLACK_MS)
    await system.setFaults()
    await expect.poll(() => repository.storage().catch(() => null)).toMatchObject({ writable: true })
  })

  it('goes lazily when it is unmounted, without waiting', async () => {
    await system.setFaults({ hang: true })
    await timed(repository.storage())
    const began = performance.now()
    expect(await shares.host.unmount(shareRecord(id, system.folder), { force: false })).toMatchObject({ mounted: false })
    expect(performance.now() - began).toBeLessThan(3_000)
    expect(await readdir(shares.mountsFolder)).toEqual([])
  })

  it('is not unmounted under work, unless by force', async () => {
    await system.setFaults({ operations: ['statfs'], hang: true })
    const working = timed(repository.storage())
    await delay(100)
    await expect(shares.host.unmount(shareRecord(id, system.folder), { force: false })).rejects.toMatchObject({
      code: 'REPO_IN_USE',
    })
    await shares.host.unmount(shareRecord(id, system.folder), { force: true })
    expect((await working).error).toMatchObject(unavailable)
  })
})

describe('a share that fails', () => {
  it.for(['EIO', 'ESTALE', 'ENOTCONN'] as const)('is unavailable with %s, and comes back', async (errno) => {
    await system.setFaults({ errno })
    await expect(repository.storage()).rejects.toMatchObject(unavailable)
    await expect(repository.listBackups()).rejects.toMatchObject(unavailable)
    await system.setFaults()
    expect(await repository.listBackups()).toMatchObject({ backups: [] })
  })

  it('is mounted anew when the server has forgotten the mount', async () => {
    const mounted = async () => mountAt(await readMountInfo(), repository.root)
    await system.setFaults({ errno: 'ESTALE' })
    await expect(repository.storage()).rejects.toMatchObject(unavailable)
    await expect.poll(mounted).toBeNull()
    await system.setFaults()
    await expect.poll(() => repository.storage().catch(() => null)).toMatchObject({ writable: true })
    expect(await mounted()).not.toBeNull()
  })

  it('is mounted anew then by whatever is asked of it, because looks begin with the marker', async () => {
    const mounted = async () => mountAt(await readMountInfo(), repository.root)
    await system.setFaults({ errno: 'ESTALE' })
    await expect(repository.readIdentity()).rejects.toMatchObject(unavailable)
    await expect.poll(mounted).toBeNull()
    await system.setFaults()
    expect(await repository.readIdentity()).toBe(id)
  })

  it('stays mounted, with all that works on it, when only a file of it is gone', async () => {
    const pid = shares.host.processOf(id)
    await system.setFaults({ errno: 'ESTALE', path: 'holdfast-repository.json' })
    await expect(repository.readIdentity()).rejects.toMatchObject(unavailable)
    await system.setFaults()
    expect(await repository.readIdentity()).toBe(id)
    expect(shares.host.processOf(id)).toBe(pid)
  })

  it('is not writable when it flips to read-only, and says so in what writes', async () => {
    await system.setFaults({ operations: ['writes'], errno: 'EROFS' })
    expect(await repository.storage()).toMatchObject({ writable: false })
    const reference = { vmFolder: 'some-vm--ab12cd34', backupId: 'backup-some-vm-20260101T000100Z-abc001' }
    await expect(repository.createBackup(reference)).rejects.toMatchObject({ code: 'REPO_INVALID', details: { errno: 'EROFS' } })
  })

  it('is waited for while it is only slow', async () => {
    await system.setFaults({ delay_ms: 40 })
    expect(await repository.storage()).toMatchObject({ writable: true })
  })
})

describe('a repository that is no longer registered', () => {
  it('is not mounted again by whoever opened it before', async () => {
    const gone = shareRecord(`${id}-gone`, system.folder)
    const opened = shares.host.open(gone)
    expect(await opened.readIdentity()).toBe(id)
    await shares.host.forget(gone)
    await expect(opened.readIdentity()).rejects.toMatchObject(unavailable)
    await expect(opened.storage()).rejects.toMatchObject(unavailable)
    expect(await readdir(shares.mountsFolder)).not.toContain(gone.id)
  })

  it('is not left mounted by a look that is under way while it is forgotten', async () => {
    const gone = shareRecord(`${id}-soon-gone`, system.folder)
    const looking = timed(shares.host.open(gone).readIdentity())
    await shares.host.forget(gone)
    expect((await looking).error).toMatchObject(unavailable)
    expect(await readdir(shares.mountsFolder)).not.toContain(gone.id)
    expect(shares.host.processOf(gone.id)).toBeNull()
  })
})

describe('the process of a repository', () => {
  it('keeps the process of another mover from the files while the kernel has not let go of it', async () => {
    const pid = shares.host.processOf(id)
    await system.setFaults({ operations: ['statfs'], hang: true })
    const hanging = timed(repository.storage())
    await delay(200)
    // As when its mover was killed: the process goes with it, but not out of its system call.
    process.kill(pid ?? 0, 'SIGKILL')
    const next = await createHostedShares()
    onTestFinished(() => next.close())
    const seen = next.open(id, system.folder)
    // The marker could be read at once: it is the lock that is waited for.
    expect((await timed(seen.readIdentity())).error).toMatchObject(unavailable)
    expect((await hanging).error).toMatchObject(unavailable)
    await system.setFaults()
    await shares.host.forget(shareRecord(id, system.folder))
    await expect.poll(() => seen.readIdentity().catch(() => null)).toBe(id)
    await next.host.forget(shareRecord(id, system.folder))
    repository = shares.open(id, system.folder)
  })

  it('is started again when it was killed', async () => {
    const pid = shares.host.processOf(id)
    expect(pid).not.toBeNull()
    await system.setFaults({ operations: ['statfs'], hang: true })
    const working = timed(repository.storage())
    await delay(200)
    process.kill(pid ?? 0, 'SIGKILL')
    expect((await working).error).toMatchObject(unavailable)
    await system.setFaults()
    await expect.poll(() => repository.storage().catch(() => null)).toMatchObject({ writable: true })
    expect(shares.host.processOf(id)).not.toBe(pid)
  })
})
