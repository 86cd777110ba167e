/**
 * What every repository must do, whatever it is made of. A new member passes this suite: `describeRepository('nfs', makeNfs)`.
 * The suite looks at the files under `root`, because the layout is part of the contract.
 */
import { lstat, mkdir, readFile, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ErrorCode } from '../domain/errors.ts'
import type { Repository } from './repository.ts'
import { publishSample, sampleManifest, sampleReference, sampleVmFolder, stageSample } from './sample-backup.ts'

export interface RepositoryUnderTest {
  /** Not yet initialized; its place is empty. */
  repository: Repository
  /** The same place, under another id. */
  withId(id: string): Repository
  /** `false` where a file's blocks are known only a while after it was written, as on SMB. */
  tellsBlocks?: boolean
  cleanUp(): Promise<void>
}

const [first, second, third] = [sampleReference(1), sampleReference(2), sampleReference(3)]

/** Declares the suite. `makeRepository` is called before each test; what it made is cleaned up after it. */
export function describeRepository(name: string, makeRepository: () => Promise<RepositoryUnderTest>): void {
  describe(`repository ${name}`, () => {
    let place: RepositoryUnderTest
    let repository: Repository
    beforeEach(async () => {
      place = await makeRepository()
      repository = place.repository
      await repository.initialize()
    })
    afterEach(() => place.cleanUp())
    const current = (): Repository => repository

    describeInitialization(current, () => place)
    describePublication(current)
    describeListing(current)
    describeDamage(current)
    describeDeletion(current)
    describeReserve(current, () => place)
  })
}

function describeInitialization(current: () => Repository, place: () => RepositoryUnderTest): void {
  it('initializes again without a change', async () => {
    const before = await readFile(join(current().root, 'holdfast-repository.json'), 'utf8')
    await current().initialize()
    expect(await readFile(join(current().root, 'holdfast-repository.json'), 'utf8')).toBe(before)
    expect(JSON.parse(before)).toMatchObject({ id: current().id, format_version: 1 })
  })

  it('refuses to be another repository, in initialize and in every use', async () => {
    const other = place().withId('repo-other')
    await expect(other.initialize()).rejects.toMatchObject(code('REPO_INVALID'))
    await expect(other.listBackups()).rejects.toMatchObject(code('REPO_INVALID'))
    await expect(other.createBackup(first)).rejects.toMatchObject(code('REPO_INVALID'))
  })

  it("tells whether a place is free, or holds somebody's files, and changes nothing", async () => {
    const { root } = current()
    await current().clear()
    await current().checkFree()
    expect(await readdir(root)).not.toContain('holdfast-repository.json')
    await writeFile(join(root, 'holiday.jpg'), 'x')
    await expect(current().checkFree()).rejects.toMatchObject(code('REPO_INVALID'))
    expect(await readFile(join(root, 'holiday.jpg'), 'utf8')).toBe('x')
  })

  it('tells its space and that it can be written, and leaves nothing behind', async () => {
    const before = (await readdir(current().root)).sort()
    const storage = await current().storage()
    expect(storage.writable).toBe(true)
    expect(storage.totalBytes).toBeGreaterThan(0)
    expect(storage.availableBytes).toBeLessThanOrEqual(storage.totalBytes - storage.usedBytes)
    expect((await readdir(current().root)).sort()).toEqual(before)
  })

  it('is unavailable, not empty, when its marker is gone', async () => {
    await publishSample(current(), first)
    await rm(join(current().root, 'holdfast-repository.json'))
    await expect(current().listBackups()).rejects.toMatchObject(code('REPO_UNAVAILABLE'))
    await expect(current().getBackup(first)).rejects.toMatchObject(code('REPO_UNAVAILABLE'))
    await expect(current().deleteBackup(first)).rejects.toMatchObject(code('REPO_UNAVAILABLE'))
    await expect(current().createBackup(second)).rejects.toMatchObject(code('REPO_UNAVAILABLE'))
  })

  it('is unavailable when its folder is gone', async () => {
    await rm(current().root, { recursive: true })
    await expect(current().storage()).rejects.toMatchObject(code('REPO_UNAVAILABLE'))
    await expect(current().listBackups()).rejects.toMatchObject(code('REPO_UNAVAILABLE'))
  })
}

function describePublication(current: () => Repository): void {
  it('publishes a full and its incremental, without journals', async () => {
    const full = await publishSample(current(), first)
    const incremental = await publishSample(current(), second, first)
    expect(full.manifest).toEqual(sampleManifest(first, null))
    expect(await current().getBackup(second)).toEqual(incremental)
    expect((await readdir(incremental.folder)).sort()).toEqual([
      'disk-0.blocks',
      'disk-0.qcow2',
      'disk-1.blocks',
      'disk-1.qcow2',
      'manifest.json',
    ])
    // The parent must be found where the child's QCOW2 header looks for it.
    const backing = incremental.manifest.disks[0]?.backing_file ?? ''
    expect(join(incremental.folder, backing)).toBe(join(full.folder, 'disk-0.qcow2'))
  })

  it('hides what is staged, and returns the same folder to a resumed backup', async () => {
    const staged = await current().createBackup(first)
    await writeFile(join(staged.folder, 'disk-0.qcow2'), 'half')
    expect(await current().createBackup(first)).toEqual(staged)
    expect(await readdir(staged.folder)).toEqual(['disk-0.qcow2'])
    await expect(current().getBackup(first)).rejects.toMatchObject(code('BACKUP_NOT_FOUND'))
    expect(await current().listBackups()).toEqual({ backups: [], damaged: [], staged: [staged] })
  })

  it('publishes once: asked again with a later clock it returns what is there', async () => {
    const published = await publishSample(current(), first)
    const again = { ...published.manifest, published_at: '2026-01-01T09:00:00.000Z' }
    expect(await current().publishBackup(first, again)).toEqual(published)
  })

  it('never replaces what is published', async () => {
    const published = await publishSample(current(), first)
    const other = { ...published.manifest, consistency_reason: 'another' }
    await expect(current().publishBackup(first, other)).rejects.toMatchObject(code('INTERNAL'))
    await expect(current().createBackup(first)).rejects.toMatchObject(code('INTERNAL'))
    expect(await current().getBackup(first)).toEqual(published)
  })

  it('refuses an incremental whose parent is missing, staged, damaged or has not the disk, and keeps the staging folder', async () => {
    const manifest = await stageSample(current(), second, first)
    await expect(current().publishBackup(second, manifest)).rejects.toMatchObject(code('CORRUPT_CHAIN'))
    const parent = await stageSample(current(), first)
    await expect(current().publishBackup(second, manifest)).rejects.toMatchObject(code('CORRUPT_CHAIN'))
    const { folder } = await current().publishBackup(first, { ...parent, disks: parent.disks.slice(0, 1) })
    await expect(current().publishBackup(second, manifest)).rejects.toMatchObject(code('CORRUPT_CHAIN'))
    await writeFile(join(folder, 'manifest.json'), '{}')
    await expect(current().publishBackup(second, manifest)).rejects.toMatchObject(code('CORRUPT_CHAIN'))
    expect((await current().listBackups()).staged.map((staged) => staged.backupId)).toEqual([second.backupId])
  })

  it('refuses files that are not those of the manifest', async () => {
    const manifest = await stageSample(current(), first)
    const staged = await current().createBackup(first)
    await writeFile(join(staged.folder, 'disk-1.qcow2'), 'shorter')
    await expect(current().publishBackup(first, manifest)).rejects.toMatchObject(code('INTERNAL'))
    await rm(join(staged.folder, 'disk-1.qcow2'))
    await expect(current().publishBackup(first, manifest)).rejects.toMatchObject(code('INTERNAL'))
    await expect(current().getBackup(first)).rejects.toMatchObject(code('BACKUP_NOT_FOUND'))
  })

  it('does not publish what was never staged', async () => {
    await expect(current().publishBackup(first, sampleManifest(first, null))).rejects.toMatchObject(code('BACKUP_NOT_FOUND'))
  })

  it('discards what is staged, again and again, and never what is published', async () => {
    await current().createBackup(first)
    await current().discardBackup(first)
    await current().discardBackup(first)
    expect(await readdir(join(current().root, 'vms'))).toEqual([])
    const published = await publishSample(current(), first)
    await current().discardBackup(first)
    expect(await current().getBackup(first)).toEqual(published)
  })

  it.each([
    ['../../etc', first.backupId],
    ['', first.backupId],
    ['a--b/..', first.backupId],
    [sampleVmFolder, '../../../etc'],
    [sampleVmFolder, `${first.backupId}.partial`],
    [sampleVmFolder, `${first.backupId}\0`],
    [sampleVmFolder, '.'],
  ])('lets no name lead out of it: %j %j', async (vmFolder, backupId) => {
    const reference = { vmFolder, backupId }
    const refused = code('INVALID_REQUEST')
    const attempt = (run: () => Promise<unknown>): Promise<unknown> => Promise.resolve().then(run)
    await expect(attempt(() => current().createBackup(reference))).rejects.toMatchObject(refused)
    await expect(attempt(() => current().getBackup(reference))).rejects.toMatchObject(refused)
    await expect(attempt(() => current().deleteBackup(reference))).rejects.toMatchObject(refused)
    await expect(attempt(() => current().discardBackup(reference))).rejects.toMatchObject(refused)
  })
}

function describeListing(current: () => Repository): void {
  it('lists one VM or all, sorted, and an unknown VM as nothing', async () => {
    const other = { vmFolder: 'another-vm--00000000', backupId: third.backupId }
    const published = [await publishSample(current(), first), await publishSample(current(), second, first)]
    const elsewhere = await publishSample(current(), other)
    expect((await current().listBackups(sampleVmFolder)).backups).toEqual(published)
    expect((await current().listBackups()).backups).toEqual([elsewhere, ...published])
    expect(await current().listBackups('no-such-vm--00000000')).toEqual({ backups: [], damaged: [], staged: [] })
  })

  it('does not follow links, nor take strangers for backups', async () => {
    const published = await publishSample(current(), first)
    await symlink(published.folder, join(dirname(published.folder), second.backupId))
    await symlink(dirname(published.folder), join(current().root, 'vms', 'linked--00000000'))
    await mkdir(join(dirname(published.folder), 'my own notes'))
    await writeFile(join(dirname(published.folder), third.backupId), 'a file with the name of a backup')
    expect(await current().listBackups()).toEqual({ backups: [published], damaged: [], staged: [] })
    await expect(current().getBackup(second)).rejects.toMatchObject(code('BACKUP_NOT_FOUND'))
    await expect(current().getBackup({ ...first, vmFolder: 'linked--00000000' })).rejects.toMatchObject(code('BACKUP_NOT_FOUND'))
  })

  it('fails when the folder of all VMs is gone', async () => {
    await rm(join(current().root, 'vms'), { recursive: true })
    await expect(current().listBackups()).rejects.toMatchObject(code('REPO_INVALID'))
    await expect(current().listBackups(sampleVmFolder)).rejects.toMatchObject(code('REPO_INVALID'))
  })
}

function describeDamage(current: () => Repository): void {
  const damages: [string, (file: string, text: string) => Promise<void>][] = [
    ['missing', (file) => rm(file)],
    ['empty', (file) => writeFile(file, '')],
    ['cut short', (file, text) => writeFile(file, text.slice(0, -40))],
    ['of another size in one digit', (file, text) => writeFile(file, text.replace('"size_bytes": 8', '"size_bytes": 9'))],
    ['of an unknown version', (file, text) => writeFile(file, text.replace('"format_version": 1', '"format_version": 2'))],
    ['a folder', (file) => rm(file).then(() => mkdir(file))],
    ['a link to a good one', (file) => rename(file, `${file}.moved`).then(() => symlink(`${file}.moved`, file))],
  ]

  it.each(damages)('reports a manifest that is %s as damage, and goes on', async (_, damage) => {
    const { folder } = await publishSample(current(), first)
    const good = await publishSample(current(), third)
    const file = join(folder, 'manifest.json')
    await damage(file, await readFile(file, 'utf8'))
    await expect(current().getBackup(first)).rejects.toMatchObject(code('BACKUP_CORRUPT'))
    const listing = await current().listBackups()
    expect(listing.backups).toEqual([good])
    expect(listing.damaged).toMatchObject([{ ...first, folder, reason: expect.stringContaining(file) }])
  })

  it('refuses a manifest that lies in the folder of another backup', async () => {
    const { folder } = await publishSample(current(), first)
    const moved = join(dirname(folder), second.backupId)
    await rename(folder, moved)
    await expect(current().getBackup(second)).rejects.toMatchObject(code('BACKUP_CORRUPT'))
  })
}

function describeDeletion(current: () => Repository): void {
  it('refuses while others depend, names them, and deletes from the end', async () => {
    for (const [reference, parent] of [
      [first, null],
      [second, first],
      [third, second],
    ] as const) {
      await publishSample(current(), reference, parent)
    }
    await expect(current().deleteBackup(first)).rejects.toMatchObject({
      code: 'BACKUP_HAS_DEPENDENTS',
      details: { dependents: [second.backupId] },
    })
    for (const reference of [third, second, first]) await current().deleteBackup(reference)
    expect(await readdir(join(current().root, 'vms'))).toEqual([])
  })

  it('deletes what is already deleted, and what is damaged', async () => {
    const { folder } = await publishSample(current(), first)
    await writeFile(join(folder, 'manifest.json'), 'damaged')
    await current().deleteBackup(first)
    await current().deleteBackup(first)
    await expect(current().getBackup(first)).rejects.toMatchObject(code('BACKUP_NOT_FOUND'))
  })

  it('keeps the parent of a child whose damaged manifest still names it', async () => {
    await publishSample(current(), first)
    const { folder } = await publishSample(current(), second, first)
    await writeFile(join(folder, 'manifest.json'), `${await readFile(join(folder, 'manifest.json'), 'utf8')}x`)
    await expect(current().deleteBackup(first)).rejects.toMatchObject(code('BACKUP_HAS_DEPENDENTS'))
  })

  it('never shows what a crash left half deleted, and removes it with the next change', async () => {
    const { folder } = await publishSample(current(), first)
    await rename(folder, `${folder}.deleting`)
    expect(await current().listBackups()).toEqual({ backups: [], damaged: [], staged: [] })
    await expect(current().getBackup(first)).rejects.toMatchObject(code('BACKUP_NOT_FOUND'))
    await current().createBackup(second)
    expect(await readdir(dirname(folder))).toEqual([`${second.backupId}.partial`])
  })
}

function describeReserve(current: () => Repository, place: () => RepositoryUnderTest): void {
  const reserve = () => lstat(join(current().root, 'holdfast-reserve'))

  it('sets space aside that is really taken, gives it back, and takes it again', async () => {
    const made = await reserve()
    expect(made.size).toBeGreaterThan(0)
    expect(place().tellsBlocks === false || made.blocks * 512 >= made.size).toBe(true)
    await current().keepReserve()
    expect((await reserve()).mtimeMs).toBe(made.mtimeMs)
    await current().releaseReserve()
    await current().releaseReserve()
    await expect(reserve()).rejects.toMatchObject({ code: 'ENOENT' })
    await current().keepReserve()
    expect((await reserve()).size).toBe(made.size)
    expect(await current().listBackups()).toEqual({ backups: [], damaged: [], staged: [] })
  })

  it('sets nothing aside where no repository can be seen', async () => {
    await current().releaseReserve()
    await rm(join(current().root, 'holdfast-repository.json'))
    await expect(current().keepReserve()).rejects.toMatchObject(code('REPO_UNAVAILABLE'))
    await expect(reserve()).rejects.toMatchObject({ code: 'ENOENT' })
  })
}

function code(expected: ErrorCode): { code: ErrorCode } {
  return { code: expected }
}
