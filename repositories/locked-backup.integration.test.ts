/** Deleting a backup of which anything is locked: all of it goes, or nothing. On a real file system with real flags. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { lockRecordName } from '../domain/repository-layout.ts'
import { requireTool } from '../test/requires.ts'
import { createSmallDisk } from '../test/small-disk.ts'
import type { SmallDisk } from '../test/small-disk.ts'
import { setImmutable } from '../tools/chattr.ts'
import { LocalRepository } from './local.ts'
import type { PublishedBackup } from './repository.ts'
import { publishSample, sampleReference } from './sample-backup.ts'

for (const program of ['chattr', 'mkfs.ext4']) requireTool(program)

const reference = sampleReference(1)
const files = ['disk-0.blocks', 'disk-0.qcow2', 'disk-1.blocks', 'disk-1.qcow2', 'manifest.json']
const ended = new Date(Date.now() - 60_000)
const ahead = new Date(Date.now() + 60 * 60 * 1000)

let disk: SmallDisk
let repository: LocalRepository
beforeAll(async () => {
  disk = await createSmallDisk(48 * 1024 * 1024)
  repository = new LocalRepository('repo-test', disk.path)
  await repository.initialize()
})
afterAll(() => disk?.remove())

/** Published, and as a locker leaves it that was killed after the flag of one file, or before. */
async function halfLocked(until: Date, locked: readonly string[]): Promise<PublishedBackup> {
  const published = await publishSample(repository, reference)
  const records = join(disk.path, 'locks', reference.backupId)
  await mkdir(records, { recursive: true })
  await writeFile(join(records, lockRecordName(until)), '')
  await setImmutable(published.folder, locked, true)
  onTestFinished(async () => {
    if (existsSync(published.folder)) await setImmutable(published.folder, locked, false)
    await rm(join(disk.path, 'locks'), { recursive: true, force: true })
    await repository.deleteBackup(reference)
  })
  return published
}

async function expectWhole(published: PublishedBackup): Promise<void> {
  expect((await repository.listBackups()).backups).toEqual([published])
  expect(await readdir(published.folder)).toEqual(files)
}

it('is refused with the date, before anything is touched, when one file is locked', async () => {
  const published = await halfLocked(ahead, ['manifest.json'])
  await expect(repository.deleteBackup(reference)).rejects.toMatchObject({
    code: 'IMMUTABLE_RETENTION_ACTIVE',
    details: { backup_id: reference.backupId, retention_expires_at: ahead.toISOString() },
  })
  await expectWhole(published)
})

it('is refused when one file is locked and the record has ended: the locker has to take off what is left of it', async () => {
  const published = await halfLocked(ended, ['disk-0.qcow2'])
  await expect(repository.deleteBackup(reference)).rejects.toMatchObject({
    code: 'REPO_INVALID',
    details: { backup_id: reference.backupId, reason: 'immutable' },
  })
  await expectWhole(published)
})

it('is refused when there is nothing but a record: whether that is one only the locker knows', async () => {
  const published = await halfLocked(ahead, [])
  await expect(repository.deleteBackup(reference)).rejects.toMatchObject({ details: { backup_id: reference.backupId } })
  await expectWhole(published)
  expect(await repository.clear()).toBe(false)
  await expectWhole(published)
  await rename(join(disk.path, 'locks'), join(disk.path, 'aside'))
  await repository.deleteBackup(reference)
  expect((await repository.listBackups()).backups).toEqual([])

  // A record without its backup keeps the repository from being cleared: whole, not without its `vms`.
  await rename(join(disk.path, 'aside'), join(disk.path, 'locks'))
  expect(await repository.clear()).toBe(false)
  expect((await repository.listBackups()).backups).toEqual([])
})
