/**
 * The locker on a real file system with real flags: what it locks stays as it is, and what it is told is not believed. What it does as a program is
 * asked of the program; the rest of its verbs themselves, which spares sixty starts.
 */
import { existsSync } from 'node:fs'
import {
  appendFile,
  link,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { LockPlace } from '../domain/lock-protocol.ts'
import { lockRecordName } from '../domain/repository-layout.ts'
import { lockBriefly, lockEnded } from '../test/brief-lock.ts'
import { failureOf } from '../test/failure.ts'
import { requireTool } from '../test/requires.ts'
import { createSmallDisk } from '../test/small-disk.ts'
import type { SmallDisk } from '../test/small-disk.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { immutableAmong } from '../tools/chattr.ts'
import { createLocker } from '../tools/locker.ts'
import type { Locker } from '../tools/locker.ts'
import { runTool } from '../tools/run-tool.ts'
import { attest as attestLocks } from './attest.ts'
import { lock as lockBackups } from './lock.ts'
import { probe } from './probe.ts'
import { readBackupsRequest, readProbeRequest, readUnlockRequest } from './request.ts'
import { unlock } from './unlock.ts'

for (const program of ['chattr', 'lsattr', 'mkfs.ext4', 'setpriv', 'unshare']) requireTool(program)

const FILES = ['disk-0.blocks', 'disk-0.qcow2', 'manifest.json']
const HOUR_MS = 60 * 60 * 1000
const vmFolder = 'web--abcd1234'
const program = createLocker()
/** As `main.ts` answers, without a start. */
const locker: Locker = {
  lock: async (request) => lockBackups(readBackupsRequest(JSON.stringify(request))),
  attest: async (request) => attestLocks(readBackupsRequest(JSON.stringify(request))),
  unlock: async (request) => unlock(readUnlockRequest(JSON.stringify(request))),
  probe: async (request) => probe(readProbeRequest(JSON.stringify(request))),
}

let ext4: SmallDisk

beforeAll(async () => {
  ext4 = await createSmallDisk(64 * 1024 * 1024)
})

afterAll(async () => {
  await ext4?.remove()
})

/** A repository with one backup; its own for each test, on the one file system. */
interface Place extends LockPlace {
  root: string
  repositoryId: string
  folder: string
}

let backups = 0

async function newBackup(root?: string): Promise<Place> {
  const place = root ?? (await mkdtemp(join(ext4.path, 'repository-')))
  const repositoryId = 'repo-locked'
  await writeFile(join(place, 'holdfast-repository.json'), JSON.stringify({ id: repositoryId, format_version: 1 }))
  const backupId = `backup-web-20261121T090000Z-${String(++backups).padStart(6, 'a')}`
  const folder = join(place, 'vms', vmFolder, backupId)
  await mkdir(folder, { recursive: true })
  for (const name of FILES) await writeFile(join(folder, name), `content of ${name}`)
  return { root: place, repositoryId, vmFolder, backupId, folder }
}

const ahead = (ms: number): Date => new Date(Date.now() + ms)

async function lock(place: Place, until: Date, asked = locker): Promise<string> {
  const { root, repositoryId, backupId } = place
  const backup = { vmFolder: place.vmFolder, backupId, until: until.toISOString() }
  const { locked, failed } = await asked.lock({ root, repositoryId, backups: [backup] })
  expect(failed).toEqual([])
  return locked[0]!.until
}

/** Why it was not locked. */
async function refusalOf(place: Place, until: Date): Promise<string> {
  const { root, repositoryId, backupId } = place
  const backup = { vmFolder: place.vmFolder, backupId, until: until.toISOString() }
  const { locked, failed } = await locker.lock({ root, repositoryId, backups: [backup] })
  expect(locked).toEqual([])
  return failed[0]!.reason
}

async function attest(place: Place, until: Date): Promise<string[]> {
  const { root, repositoryId, backupId } = place
  const backup = { vmFolder: place.vmFolder, backupId, until: until.toISOString() }
  const { findings } = await locker.attest({ root, repositoryId, backups: [backup] })
  return findings[0]!.missing
}

const recordsOf = ({ root, backupId }: Place) => join(root, 'locks', backupId)

async function chattr(flag: '+i' | '-i', ...paths: string[]): Promise<void> {
  await runTool('chattr', [flag, ...paths], { timeoutMs: 10_000 })
}

async function lockedFiles({ folder }: Place): Promise<string[]> {
  return [...(await immutableAmong(folder, [...FILES, '.']))].sort()
}

describe('what is locked', () => {
  let place: Place
  const until = ahead(HOUR_MS)

  beforeAll(async () => {
    place = await newBackup()
    await lock(place, until)
  })

  test.each<[string, (at: (name: string) => string) => Promise<unknown>]>([
    ['deleted', (at) => unlink(at('manifest.json'))],

    ['overwritten', (at) => writeFile(at('disk-0.qcow2'), 'other')],
    ['appended to', (at) => appendFile(at('disk-0.qcow2'), 'more')],
    ['truncated', (at) => truncate(at('disk-0.qcow2'), 0)],
    ['renamed', (at) => rename(at('disk-0.qcow2'), at('disk-1.qcow2'))],
    ['replaced', (at) => writeFile(at('../other'), '').then(() => rename(at('../other'), at('disk-0.qcow2')))],
    ['given a second name', (at) => link(at('disk-0.qcow2'), at('../second'))],
    ['added to', (at) => writeFile(at('disk-1.qcow2'), '')],
    ['moved away', (at) => rename(place.folder, at('../moved'))],
    ['given another time, which dates its lock', () => utimes(place.folder, new Date(), ahead(HOUR_MS))],
    ['freed of its record', (at) => unlink(at(`../../../locks/${place.backupId}/${lockRecordName(until)}`))],
  ])('cannot be %s, not even by root', async (_, attempt) => {
    const at = (name: string): string => `${place.folder}/${name}`
    await expect(attempt(at)).rejects.toMatchObject({ code: 'EPERM' })
  })

  test('is still what it was, also after somebody tried to remove the whole repository', async () => {
    const removed = runTool('rm', ['-rf', place.root], { timeoutMs: 10_000 })
    expect((await failureOf(removed)).message).toContain('Operation not permitted')
    await writeFile(join(place.root, 'holdfast-repository.json'), JSON.stringify({ id: place.repositoryId, format_version: 1 }))
    expect(await attest(place, until)).toEqual([])
    expect(await readdir(place.folder)).toEqual(FILES)
  })

  test('is not unlocked before its date, which the refusal names', async () => {
    const refusal = await failureOf(program.unlock(place))
    expect(refusal).toMatchObject({
      code: 'IMMUTABLE_RETENTION_ACTIVE',
      retryable: false,
      details: { backup_id: place.backupId, retention_expires_at: until.toISOString() },
    })
    expect(await lockedFiles(place)).toEqual(['.', ...FILES])
  })

  test('is locked for longer, never for less', async () => {
    const longer = new Date(until.getTime() + HOUR_MS)
    expect(await lock(place, longer)).toBe(longer.toISOString())
    expect(await lock(place, until)).toBe(longer.toISOString())
    expect(await readdir(recordsOf(place))).toEqual([lockRecordName(until), lockRecordName(longer)])
    expect((await failureOf(locker.unlock(place))).details['retention_expires_at']).toBe(longer.toISOString())
  })

  test('is the same when it is locked again', async () => {
    const records = await readdir(recordsOf(place))
    await lock(place, until)
    expect(await readdir(recordsOf(place))).toEqual(records)
  })

  test.each([
    ['a file', ['chattr', '-i', 'manifest.json']],
    ['the folder', ['chattr', '-i', '.']],
  ])('keeps its flag on %s from a process without the right to take it off', async (_, command) => {
    const without = ['--bounding-set=-linux_immutable', '--inh-caps=-linux_immutable', '--', ...command]
    const attempt = runTool('setpriv', without, { cwd: place.folder, timeoutMs: 10_000 })
    expect((await failureOf(attempt)).message).toContain('Operation not permitted')
    expect(await lockedFiles(place)).toEqual(['.', ...FILES])
  })
})

test('after its date it is unlocked once, and nothing of the lock is left', async () => {
  const place = await newBackup()
  await lockEnded(await lockBriefly(place, locker))
  expect(await locker.unlock(place)).toEqual({ unlocked: true })
  expect(await lockedFiles(place)).toEqual([])
  expect(existsSync(join(place.root, 'locks'))).toBe(false)
  expect(await locker.unlock(place)).toEqual({ unlocked: false })
  await rm(place.folder, { recursive: true })
})

test('what never was locked is not unlocked, and can be removed', async () => {
  const place = await newBackup()
  expect(await locker.unlock(place)).toEqual({ unlocked: false })
  await rm(place.folder, { recursive: true })
  expect(await locker.unlock(place)).toEqual({ unlocked: false })
})

test('a chain is locked in one go; one that cannot be does not keep the others from it', async () => {
  const place = await newBackup()
  const second = await newBackup(place.root)
  const until = ahead(HOUR_MS).toISOString()
  const gone = { vmFolder, backupId: 'backup-web-20261121T090000Z-zzzzzz', until }
  const asked = [gone, ...[place, second].map(({ backupId }) => ({ vmFolder, backupId, until }))]
  const answer = await program.lock({ root: place.root, repositoryId: place.repositoryId, backups: asked })
  expect(answer.locked.map(({ backupId }) => backupId)).toEqual([place.backupId, second.backupId])
  expect(answer.failed).toEqual([{ backupId: gone.backupId, reason: `The folder of ${gone.backupId} is gone.` }])
  expect(await lockedFiles(second)).toEqual(['.', ...FILES])
})

test('two lockers at a time do not disturb each other', async () => {
  const place = await newBackup()
  const ends = [ahead(HOUR_MS), ahead(2 * HOUR_MS), ahead(3 * HOUR_MS)]
  await Promise.all(ends.map((until) => lock(place, until, program)))
  expect(await attest(place, ends[2]!)).toEqual([])
})

test('on a disk without a free block nothing is locked or claimed to be; with one it is', async () => {
  const place = await newBackup()
  const until = ahead(HOUR_MS)
  const filler = await ext4.fill()
  onTestFinished(() => rm(filler, { force: true }))
  expect(await refusalOf(place, until)).toContain('ENOSPC')
  expect(await lockedFiles(place)).toEqual([])
  expect(await attest(place, until)).toContain('the folder is not locked')
  // A record that found no room is none: what is not locked may go.
  expect(await locker.unlock(place)).toEqual({ unlocked: false })
  expect(existsSync(recordsOf(place))).toBe(false)
  await rm(filler)
  await lock(place, until)
  expect(await attest(place, until)).toEqual([])
})

describe('a crash', () => {
  test('while locking leaves a record at most: locking again completes it', async () => {
    const place = await newBackup()
    const until = ahead(HOUR_MS)
    await lock(place, until)
    // Back to each state on the way: the folder's flag came last, then the files', then the record's.
    for (const undone of [['.'], ['.', 'disk-0.qcow2'], ['.', ...FILES]]) {
      await chattr('-i', ...undone.map((name) => join(place.folder, name)))
      expect((await failureOf(locker.unlock(place))).code, undone.join()).toBe('IMMUTABLE_RETENTION_ACTIVE')
      await lock(place, until)
      expect(await attest(place, until), undone.join()).toEqual([])
    }
    await chattr('-i', ...['.', ...FILES].map((name) => join(place.folder, name)), join(recordsOf(place), lockRecordName(until)))
    await writeFile(join(recordsOf(place), `.${lockRecordName(ahead(HOUR_MS))}`), 'torn')
    await lock(place, until)
    expect(await attest(place, until)).toEqual([])
  })

  test('while unlocking leaves a lock that has ended: unlocking again completes it', async () => {
    const [inFlags, inRecords] = [await newBackup(), await newBackup()]
    const [other, until] = await Promise.all([lockBriefly(inFlags, locker), lockBriefly(inRecords, locker)])
    await Promise.all([lockEnded(other), lockEnded(until)])
    await chattr('-i', join(inFlags.folder, 'disk-0.qcow2'))
    expect(await locker.unlock(inFlags)).toEqual({ unlocked: true })
    expect(existsSync(recordsOf(inFlags))).toBe(false)

    await chattr(
      '-i',
      ...['.', ...FILES].map((name) => join(inRecords.folder, name)),
      join(recordsOf(inRecords), lockRecordName(until)),
    )
    expect(await locker.unlock(inRecords)).toEqual({ unlocked: false })
    expect(existsSync(recordsOf(inRecords))).toBe(false)
  })
})

describe('is not led astray', () => {
  test('by records that are gone: what is locked without one is neither unlocked nor given a shorter lock', async () => {
    const place = await newBackup()
    await lock(place, ahead(HOUR_MS))
    await rename(join(place.root, 'locks'), join(place.root, 'elsewhere'))
    for (const refusal of [await refusalOf(place, ahead(60_000)), (await failureOf(locker.unlock(place))).message]) {
      expect(refusal).toContain('the record that says until when is not there or not to be believed')
    }
    expect(await attest(place, ahead(0))).toEqual(['no record says until when it is locked'])
    expect(await lockedFiles(place)).toEqual(['.', ...FILES])
  })

  test('by records that somebody wrote, who could not make them immutable', async () => {
    const place = await newBackup()
    const until = ahead(HOUR_MS)
    await lock(place, until)
    await rename(join(place.root, 'locks'), join(place.root, 'elsewhere'))
    await mkdir(recordsOf(place), { recursive: true })
    const past = ahead(-HOUR_MS)
    const record = { format_version: 1, repository_id: place.repositoryId, vm_folder: vmFolder, backup_id: place.backupId }
    const { ino } = await stat(place.folder)
    const forged = JSON.stringify({ ...record, folder_inode: String(ino), until: past.toISOString() })
    await writeFile(join(recordsOf(place), lockRecordName(past)), forged)
    expect((await failureOf(locker.unlock(place))).code).toBe('LOCK_FAILED')
    expect(await lockedFiles(place)).toEqual(['.', ...FILES])
  })

  test('by a short lock of another folder, whose place the locked one takes', async () => {
    const [place, decoy] = [await newBackup(), await newBackup()]
    await lock(place, ahead(HOUR_MS))
    // The same names in a repository of the same id, locked for a moment.
    const twin = { ...decoy, backupId: place.backupId, folder: join(decoy.root, 'vms', vmFolder, place.backupId) }
    await rename(decoy.folder, twin.folder)
    await lockEnded(await lockBriefly(twin, locker))
    await rename(join(decoy.root, 'vms', vmFolder), join(decoy.root, 'aside'))
    await rename(join(place.root, 'vms', vmFolder), join(decoy.root, 'vms', vmFolder))
    expect((await failureOf(locker.unlock(twin))).code).toBe('LOCK_FAILED')
    expect(await lockedFiles(twin)).toEqual(['.', ...FILES])
  })

  test('by a record that it made immutable itself, as a file of a backup that somebody had it lock', async () => {
    const [place, decoy] = [await newBackup(), await newBackup()]
    await lock(place, ahead(HOUR_MS))
    const { backupId } = place
    // A backup of the same name whose file reads as a record of the locked one, in a folder that becomes `locks` later.
    const [trap, past] = [{ ...decoy, backupId, folder: join(decoy.root, 'vms', vmFolder, backupId) }, ahead(-HOUR_MS)]
    await rename(decoy.folder, trap.folder)
    const { ino } = await stat(place.folder)
    const record = { format_version: 1, repository_id: place.repositoryId, vm_folder: vmFolder, backup_id: backupId }
    const forged = JSON.stringify({ ...record, folder_inode: String(ino), until: past.toISOString() })
    await writeFile(join(trap.folder, lockRecordName(past)), forged)
    await lock(trap, ahead(HOUR_MS))

    const root = await mkdtemp(join(ext4.path, 'repository-'))
    await rename(join(place.root, 'holdfast-repository.json'), join(root, 'holdfast-repository.json'))
    await mkdir(join(root, 'vms'))
    await rename(join(decoy.root, 'vms', vmFolder), join(root, 'locks'))
    await rename(join(place.root, 'vms', vmFolder), join(root, 'vms', vmFolder))
    const moved = { ...place, root, folder: join(root, 'vms', vmFolder, backupId) }
    // Nor does it help to touch the flags that are there, which everybody may: they stay, and the folder looks younger.
    await runTool(
      'setpriv',
      ['--bounding-set=-linux_immutable', '--inh-caps=-linux_immutable', '--', 'chattr', '+i', moved.folder],
      {
        timeoutMs: 10_000,
      },
    )
    expect((await failureOf(locker.unlock(moved))).code).toBe('LOCK_FAILED')
    expect(await lockedFiles(moved)).toEqual(['.', ...FILES])
  })

  test('by a record that is hidden behind another file: its name counts', async () => {
    const place = await newBackup()
    await lockEnded(await lockBriefly(place, locker))
    const longer = ahead(HOUR_MS)
    await lock(place, longer)
    const over = join(recordsOf(place), lockRecordName(longer))
    const nothing = join(await mkdtemp(join(ext4.path, 'outside-')), 'file')
    await writeFile(nothing, '')
    await runTool('mount', ['--bind', nothing, over], { timeoutMs: 10_000 })
    onTestFinished(async () => void (await runTool('umount', [over], { timeoutMs: 10_000 })))
    expect((await failureOf(locker.unlock(place))).code).toBe('IMMUTABLE_RETENTION_ACTIVE')
    expect(await lockedFiles(place)).toEqual(['.', ...FILES])
  })

  test('by names that Holdfast does not form', async () => {
    const place = await newBackup()
    const until = ahead(HOUR_MS).toISOString()
    const folders = ['..', '../../vms', 'web', `${vmFolder}/`, `${vmFolder}/../${vmFolder}`]
    const ids = ['../x', 'backup', `${place.backupId}/..`, `${place.backupId}.partial`, '.']
    const asked = [
      ...folders.map((folder) => ({ vmFolder: folder, backupId: place.backupId, until })),
      ...ids.map((backupId) => ({ vmFolder, backupId, until })),
    ]
    const answer = await locker.lock({ root: place.root, repositoryId: place.repositoryId, backups: asked })
    expect(answer.locked).toEqual([])
    expect(answer.failed).toHaveLength(asked.length)
    for (const { reason } of answer.failed) expect(reason).toContain('is not a backup of a repository')
    expect((await failureOf(locker.unlock({ ...place, vmFolder: '..' }))).code).toBe('INVALID_REQUEST')
  })

  test('by a root that is no repository, another one, or not plain', async () => {
    const place = await newBackup()
    const codeOf = async (change: Partial<Place>) => (await failureOf(locker.unlock({ ...place, ...change }))).code
    expect(await codeOf({ repositoryId: 'repo-other' })).toBe('REPO_INVALID')
    expect(await codeOf({ root: ext4.path })).toBe('REPO_UNAVAILABLE')
    expect(await codeOf({ root: join(place.root, 'nowhere') })).toBe('REPO_UNAVAILABLE')
    expect(await codeOf({ root: `${place.root}/../${place.root.split('/').at(-1)}` })).toBe('INVALID_REQUEST')
    expect(await codeOf({ root: 'relative' })).toBe('INVALID_REQUEST')
  })

  test('by links, second names, folders and other mounts in place of files', async () => {
    const outside = join(await mkdtemp(join(ext4.path, 'outside-')), 'file')
    await writeFile(outside, 'not a backup')
    const ways: [string, (place: Place) => Promise<unknown>][] = [
      ['a link to a file', (place) => symlink(outside, join(place.folder, 'link'))],
      ['a second name', (place) => link(outside, join(place.folder, 'second'))],
      ['a folder', (place) => mkdir(join(place.folder, 'folder'))],
      [
        'a link to a folder',
        async (place) => {
          await rename(place.folder, join(place.root, 'real'))
          await symlink(join(place.root, 'real'), place.folder)
        },
      ],
      [
        'a mounted file',
        async (place) => {
          const over = join(place.folder, 'manifest.json')
          await runTool('mount', ['--bind', outside, over], { timeoutMs: 10_000 })
          onTestFinished(async () => void (await runTool('umount', [over], { timeoutMs: 10_000 })))
        },
      ],
      [
        'a mounted folder',
        async (place) => {
          await runTool('mount', ['--bind', join(outside, '..'), place.folder], { timeoutMs: 10_000 })
          onTestFinished(async () => void (await runTool('umount', [place.folder], { timeoutMs: 10_000 })))
        },
      ],
    ]
    for (const [way, arrange] of ways) {
      const place = await newBackup()
      await arrange(place)
      expect(await refusalOf(place, ahead(HOUR_MS)), way).toMatch(/is not a plain file|cannot be opened|is a mount point/)
    }
    expect(await immutableAmong(join(outside, '..'), ['file'])).toEqual(new Set())
  })

  test('by a file that is mounted over another between its looks, when it runs as docs/operations.md says', async () => {
    const [place, trap] = [await newBackup(), await newBackup()]
    await lock(place, ahead(HOUR_MS))
    await lockEnded(await lockBriefly(trap, locker))
    // Waits where somebody else is quick: before flags are taken off.
    const folder = await temporaryFolder()
    const [waiting, go] = [join(folder, 'waiting'), join(folder, 'go')]
    const script = `#!/bin/sh\n[ "$1" = +i ] || { : > ${waiting}; while [ ! -e ${go} ]; do sleep 0.05; done; }\nPATH=$REAL_PATH exec chattr "$@"\n`
    await writeFile(join(folder, 'chattr'), script, { mode: 0o755 })
    const { PATH = '' } = process.env
    const slow = ['env', `PATH=${folder}:${PATH}`, `REAL_PATH=${PATH}`]
    const own = ['unshare', '--mount', '--propagation', 'private', process.execPath, join(import.meta.dirname, 'main.ts')]
    const unlocked = createLocker([...slow, ...own]).unlock(trap)
    await expect.poll(() => existsSync(waiting), { timeout: 30_000 }).toBe(true)
    const over = join(trap.folder, 'manifest.json')
    await runTool('mount', ['--bind', join(place.folder, 'manifest.json'), over], { timeoutMs: 10_000 })
    onTestFinished(async () => void (await runTool('umount', [over], { timeoutMs: 10_000 })))
    await writeFile(go, '')
    expect(await unlocked).toEqual({ unlocked: true })
    expect(await lockedFiles(place)).toEqual(['.', ...FILES])
  })

  test('by ends that are past, too far away, or no times', async () => {
    const place = await newBackup()
    expect(await refusalOf(place, ahead(-1))).toContain('would have ended already')
    const { root, repositoryId, backupId } = place
    for (const until of ['never', '', ahead(200 * 366 * 24 * HOUR_MS).toISOString()]) {
      const asked = locker.lock({ root, repositoryId, backups: [{ vmFolder, backupId, until }] })
      expect((await failureOf(asked)).code, until).toBe('INVALID_REQUEST')
    }
    expect(await lockedFiles(place)).toEqual([])
  })
})

describe('the attestation', () => {
  test('names what is not locked', async () => {
    const place = await newBackup()
    const until = ahead(HOUR_MS)
    await lock(place, until)
    await chattr('-i', join(place.folder, 'disk-0.qcow2'), place.folder)
    expect(await attest(place, until)).toEqual(['disk-0.qcow2 is not locked', 'the folder is not locked'])
    expect(await attest(place, ahead(2 * HOUR_MS))).toContainEqual(expect.stringContaining(`until ${until.toISOString()} only`))
  })

  test('sees that the VM was moved away with its backups', async () => {
    const place = await newBackup()
    const until = ahead(HOUR_MS)
    await lock(place, until)
    await rename(join(place.root, 'vms', vmFolder), join(place.root, 'vms', 'elsewhere'))
    expect(await attest(place, until)).toEqual(['the folder is gone'])
  })
})

describe('the probe', () => {
  test('finds that ext4 keeps what is locked, and leaves nothing', async () => {
    const root = await mkdtemp(join(ext4.path, 'probed-'))
    expect(await locker.probe({ root })).toEqual({ enforcedBy: 'chattr', reason: null })
    expect(await readdir(root)).toEqual([])
  })

  test('removes what a crash left of another one, and unlocks nothing that only has its name', async () => {
    const place = await newBackup()
    const left = join(place.root, '.holdfast-lock-probe-left')
    await mkdir(join(left, 'folder'), { recursive: true })
    await writeFile(join(left, 'file'), '')
    await writeFile(join(left, 'folder/inside'), '')
    await chattr('+i', join(left, 'file'), join(left, 'folder'))
    await lock(place, ahead(HOUR_MS))
    const disguised = join(place.root, '.holdfast-lock-probe-disguised')
    await rename(join(place.root, 'vms', vmFolder), disguised)
    expect((await locker.probe({ root: place.root })).enforcedBy).toBe('chattr')
    expect(existsSync(left)).toBe(false)
    expect(await lockedFiles({ ...place, folder: join(disguised, place.backupId) })).toEqual(['.', ...FILES])
  })

  test.each([
    ['tmpfs', /tmpfs keeps everything in memory/],
    ['ramfs', /ramfs keeps everything in memory/],
  ])('claims nothing on %s', async (type, reason) => {
    const folder = await temporaryFolder()
    await runTool('mount', ['-t', type, type, folder], { timeoutMs: 10_000 })
    onTestFinished(async () => void (await runTool('umount', [folder], { timeoutMs: 10_000 })))
    const found = await locker.probe({ root: folder })
    expect(found.enforcedBy).toBe('none')
    expect(found.reason).toMatch(reason)
    expect(await readdir(folder)).toEqual([])
  })

  test('claims nothing where chattr has no right, and says what chattr said', async () => {
    const root = await mkdtemp(join(ext4.path, 'unprivileged-'))
    const without = ['setpriv', '--bounding-set=-linux_immutable', '--inh-caps=-linux_immutable', '--']
    const own = [process.execPath, join(import.meta.dirname, 'main.ts')]
    const found = await createLocker([...without, ...own]).probe({ root })
    expect(found).toEqual({ enforcedBy: 'none', reason: expect.stringMatching(/^chattr: Operation not permitted/) })
    expect(await readdir(root)).toEqual([])
  })
})

test('a service that is only given the request finds the verb in it', async () => {
  const input = JSON.stringify({ verb: 'probe', root: ext4.path })
  const { stdout } = await runTool(process.execPath, [join(import.meta.dirname, 'main.ts')], { input, timeoutMs: 30_000 })
  expect(JSON.parse(stdout)).toEqual({ ok: true, answer: { enforcedBy: 'chattr', reason: null } })
})

test('a locker that says nothing, or does not end, is no answer', async () => {
  const place = await newBackup()
  expect((await failureOf(createLocker(['true']).unlock(place))).code).toBe('LOCK_FAILED')
  expect(await failureOf(createLocker(['sleep', '60']).unlock(place, { deadlineMs: 200 }))).toMatchObject({ code: 'LOCK_FAILED' })
  expect((await failureOf(createLocker(['no-such-program']).unlock(place))).code).toBe('TOOL_MISSING')
})
