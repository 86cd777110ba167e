/**
 * A Linux that writes while it is backed up: what the restored disks hold is judged by its file system, not by comparing bytes. One guest
 * for all tests, because starting one takes longer than most of them; each leaves it running, writing and thawed.
 */
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { GuestAgent } from '../../test/guest/agent.ts'
import { startGuest, type Guest } from '../../test/guest/guest.ts'
import { requireGuest } from '../../test/guest/guest-files.ts'
import { buildInitramfs } from '../../test/guest/initramfs.ts'
import { LiveBackups, type LiveBackup } from '../../test/guest/live-backups.ts'
import { checkFileSystem, filesOn } from '../../test/guest/restored-disk.ts'
import { figures, quantile } from '../../test/guest/timings.ts'
import { startPrivateLibvirt, type PrivateLibvirt } from '../../test/private-libvirt.ts'
import { requireTool } from '../../test/requires.ts'
import { createTemporaryFolder, temporaryFolder } from '../../test/temporary-folder.ts'
import { startTool } from '../../tools/run-tool.ts'
import { createSource, type SourceConnection } from '../registry.ts'
import type { Source } from '../source.ts'

for (const program of ['libvirtd', 'virsh', 'qemu-system-x86_64', 'qemu-nbd', 'unshare']) requireTool(program)
requireGuest()

const MIB = 1024 * 1024

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let libvirt: PrivateLibvirt
let connection: SourceConnection
let source: Source
let guest: Guest
let backups: LiveBackups

beforeAll(async () => {
  folder = await createTemporaryFolder()
  libvirt = await startPrivateLibvirt({ keep: true, folder: folder.path })
  guest = await startGuest(libvirt, { name: 'guest', initramfs: await buildInitramfs(folder.path) })
  const scratchFolder = join(folder.path, 'scratch')
  await mkdir(scratchFolder)
  connection = { id: 'source-1', config: { uri: libvirt.uri, scratch_folder: scratchFolder }, credentials: null }
  source = createSource('libvirt', { runFolder: join(folder.path, 'run'), connection })
  backups = new LiveBackups(source, guest, join(folder.path, 'backups'))
})

afterAll(async () => {
  await libvirt?.stop()
  await folder?.remove()
})

/** It writes on, and its agent says that nothing is frozen. */
async function expectGuestGoesOn(): Promise<void> {
  await guest.console.advances(3)
  expect(await guest.agent.freezeStatus()).toBe('thawed')
}

function numbersTo(last: number): number[] {
  return Array.from({ length: last }, (_, index) => index + 1)
}

describe('backups of a guest that writes', () => {
  const points: { backup: LiveBackup; syncedBefore: number; syncedAfter: number }[] = []

  /** Backs up and keeps what was on the disk for good before the freeze, and what may have been before its end. */
  async function backUp(backupId: string, rateLimitBytesPerSecond?: number): Promise<void> {
    const syncedBefore = await guest.console.lastSynced()
    let syncedAfter = 0
    const parent = points.at(-1)?.backup
    const backup = await backups.backUp({
      backupId,
      ...(parent && { parent }),
      ...(rateLimitBytesPerSecond !== undefined && { rateLimitBytesPerSecond }),
      onFrozen: async () => void (syncedAfter = await guest.console.lastSynced()),
    })
    points.push({ backup, syncedBefore, syncedAfter })
  }

  test('a full whose repository is slow does not stall the guest', async ({ annotate }) => {
    await guest.console.advances(60)
    const quiet = (await guest.console.synced()).slice(3)
    await backUp('full', MIB)
    const during = (await guest.console.synced()).filter(({ number }) => number > points[0]!.syncedAfter + 1)
    await annotate(`ms for a file and its sync: quiet ${figures(quiet)}; during a backup at 1 MiB/s ${figures(during)}`)
    expect(during.length).toBeGreaterThan(10)
    // What would be a stall is seconds; busy machines need the rest of the margin.
    expect(quantile(during, 0.95)).toBeLessThan(5 * quantile(quiet, 0.95) + 500)
    await expectGuestGoesOn()
  })

  test('two incrementals follow while it writes', async () => {
    for (const backupId of ['increment-1', 'increment-2']) {
      await guest.console.advances(15)
      await backUp(backupId)
      await expectGuestGoesOn()
    }
    for (const { backup } of points) {
      expect(backup.snapshot).toMatchObject({ consistency: 'filesystem', warnings: [] })
    }
    for (const { backup } of points.slice(1)) expect(backup.snapshot.disks[0]!.trackedSince).not.toBeNull()
  })

  test('each restored disk is a clean file system with every file that was there for good', async () => {
    expect(points).toHaveLength(3)
    const restored = await temporaryFolder()
    for (const { backup, syncedBefore, syncedAfter } of points) {
      const raw = await backups.restore(backup, join(restored, `${backup.backupId}.raw`), 'raw')
      await checkFileSystem(raw)
      const { right, wrong } = await filesOn(raw, 'ro')
      expect(wrong).toEqual([])
      expect(right).toEqual(numbersTo(right.length))
      expect(right.length).toBeGreaterThanOrEqual(syncedBefore)
      // One may have been written and not yet been told of; nothing from later may be there.
      expect(right.length).toBeLessThanOrEqual(syncedAfter + 1)
    }
  })
})

test('an agent that hangs costs consistency and little time, not the backup', async () => {
  await guest.console.advances(10)
  const agent = await guest.agentPid()
  await guest.agent.run(`sleep 1; kill -STOP ${agent}; echo 'agent stopped' >/dev/console; sleep 25; kill -CONT ${agent}`)
  await guest.console.awaits(/agent stopped/)
  const syncedBefore = await guest.console.lastSynced()
  const started = performance.now()
  const backup = await backups.backUp({ backupId: 'hung-agent', onFrozen: async () => guest.console.advances(1) })
  expect(performance.now() - started).toBeLessThan(60_000)
  expect(backup.snapshot.consistency).toBe('crash')
  expect(backup.snapshot.warnings).toContainEqual(expect.objectContaining({ code: 'consistency_reduced' }))

  const raw = await backups.restore(backup, join(await temporaryFolder(), 'disk.raw'), 'raw')
  // As after a power failure: the journal brings back what was synced.
  const { right } = await filesOn(raw, 'rw')
  expect(right.slice(0, syncedBefore)).toEqual(numbersTo(syncedBefore))
  await checkFileSystem(raw)
  await expect.poll(() => guest.agent.freezeStatus().catch(() => 'hangs'), { timeout: 60_000, interval: 500 }).toBe('thawed')
  await expectGuestGoesOn()
})

test('kill -9 of our process in the middle of a freeze leaves the guest thawed', async () => {
  const programs = await temporaryFolder()
  const [reached, virsh] = [join(programs, 'reached'), join(programs, 'virsh')]
  // The begin takes long enough to die in the middle of it.
  const slowBegin = `case " $* " in *' backup-begin '*) : >'${reached}'; sleep 6 ;; esac`
  await writeFile(virsh, `#!/bin/sh\n${slowBegin}\nPATH=\${PATH#*:} exec virsh "$@"\n`, { mode: 0o755 })
  const registry = join(import.meta.dirname, '../registry.ts')
  const script = `
    import { createSource } from ${JSON.stringify(registry)}
    const source = createSource('libvirt', ${JSON.stringify({ runFolder: programs, connection })})
    await source.beginSnapshot(${JSON.stringify({ backupId: 'killed', config: backups.config, parentChangeIds: {} })}, {})
    setInterval(() => {}, 1000)`
  const env = { PATH: `${programs}:${process.env['PATH'] ?? ''}` }
  const child = startTool(process.execPath, ['--input-type=module-typescript', '--eval', script], { env })
  try {
    await expect.poll(() => existsSync(reached), { timeout: 60_000, interval: 20 }).toBe(true)
    expect(await guest.agent.freezeStatus()).toBe('frozen')
    process.kill(child.pid, 'SIGKILL')
    await child.exited
  } finally {
    await child.stop(0)
  }
  await expectGuestGoesOn()

  await expect.poll(() => guest.ask('domjobinfo'), { timeout: 60_000 }).toContain('Backup')
  await source.endSnapshot(backups.config, 'killed', { outcome: 'abandoned', changeIdsInUse: [] }, {})
  expect(await guest.ask('domjobinfo')).not.toContain('Backup')
  expect(await guest.ask('checkpoint-list', '--name')).not.toContain('holdfast-killed')
})

test('a guest restored as a new domain starts and finds its files', { timeout: 300_000 }, async () => {
  const syncedBefore = await guest.console.lastSynced()
  const backup = await backups.backUp({ backupId: 'to-restore' })
  const syncedAfter = await guest.console.lastSynced()
  const restore = {
    restoreId: 'restore-1',
    target: {
      mode: 'new' as const,
      vmName: 'restored',
      config: null,
      diskFolder: await temporaryFolder(),
      connectNetwork: false,
    },
    vmConfig: backup.snapshot.vmConfig,
  }
  const { restorer } = source.platform!
  const disks = await restorer.plan({ ...restore, disks: backup.snapshot.disks }, {})
  await backups.restore(backup, disks[0]!.writePath, 'qcow2')
  const { externalId } = await restorer.complete({ ...restore, disks }, {})
  expect(externalId).not.toBe(guest.uuid)
  // One emulated processor at a time.
  await guest.ask('suspend')
  onTestFinished(async () => {
    await libvirt.ask('destroy', externalId)
    await guest.ask('resume')
  })
  await restorer.start(externalId, {})

  const said = await new GuestAgent(libvirt, externalId).output('cat /run/damaged 2>/dev/null; cat /run/verified')
  expect(said).toMatch(/^guest: verified (\d+) files, highest \1\n$/)
  const highest = /\d+/.exec(said)?.[0]
  expect(Number(highest)).toBeGreaterThanOrEqual(syncedBefore)
  expect(Number(highest)).toBeLessThanOrEqual(syncedAfter + 1)
})

test('an agent that was killed costs consistency, not the backup', async () => {
  await guest.agent.run(`sleep 1; kill -9 ${await guest.agentPid()}`)
  await expect.poll(() => guest.ask('dumpxml'), { timeout: 60_000 }).toContain("state='disconnected'")
  const request = { backupId: 'killed-agent', config: backups.config, parentChangeIds: {} }
  const snapshot = await source.beginSnapshot(request, {})
  try {
    expect(snapshot.consistency).toBe('crash')
    expect(snapshot.warnings).toContainEqual(expect.objectContaining({ code: 'consistency_reduced' }))
    await guest.console.advances(3)
  } finally {
    await source.endSnapshot(backups.config, 'killed-agent', { outcome: 'abandoned', changeIdsInUse: [] }, {})
  }
})
