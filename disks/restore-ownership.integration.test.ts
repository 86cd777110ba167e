/** Two restores, crashes and people at one target. */
import { link, mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { backUpImage, MIB, noise, writeImage } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { createImage } from '../tools/qemu-img.ts'
import type { ChainLink } from './chain.ts'
import { checkRestoreTarget, discardRestore, restoreDiskTo, type RestoreRequest } from './restore.ts'
import { RestoreCheckpoints } from './restore-checkpoints.ts'
import { identityOf, restoreFiles, type RestoreFiles } from './restore-files.ts'
import { readRestoreJournal, writeRestoreJournal, type RestoreJournal } from './restore-journal.ts'
import { publishTarget, renameWithoutReplacing } from './restore-publication.ts'
import { tidyImage } from './restore-target.ts'
import { RangeClaims } from './range-claims.ts'

requireTool('qemu-nbd')

const sizeBytes = 96 * MIB
const identity = { backupId: 'one', diskIndex: 0, blocksSha256: 'x', sizeBytes: MIB, targetFormat: 'raw' as const }

async function backup(folder: string, backupId: string, seed: number): Promise<{ links: ChainLink[]; raw: string }> {
  const raw = join(folder, `${backupId}.raw`)
  await writeImage(raw, sizeBytes, [[0, noise(sizeBytes, seed)]])
  const { links } = await backUpImage({ folder, backupId, imagePath: raw, sizeBytes, compression: 'none' })
  return { links, raw }
}

function requestFor(folder: string, restoreId: string, links: readonly ChainLink[]): RestoreRequest {
  const often = { checkpointIntervalMs: 5, checkpointIntervalBytes: 1 }
  return {
    restoreId,
    links,
    targetPath: join(folder, 'target.raw'),
    targetFormat: 'raw',
    runFolder: join(folder, 'run'),
    ...often,
  }
}

/** The state of a restore of one MiB that only has to be named. */
async function finishedPartial(restoreId = 'restore-1'): Promise<{ files: RestoreFiles; journal: RestoreJournal }> {
  const files = restoreFiles(join(await temporaryFolder(), 'target.raw'))
  await writeFile(files.partial, noise(MIB, 1))
  const journal = { restoreId, ...identity, reachedBytes: MIB, file: await identityOf(files.partial) }
  await writeRestoreJournal(files.journal, journal)
  return { files, journal }
}

async function names(files: RestoreFiles): Promise<string[]> {
  return (await readdir(dirname(files.target))).toSorted()
}

describe('a second restore to the same target', () => {
  it('is refused and changes nothing; the first one ends well', async () => {
    const folder = await temporaryFolder()
    const [one, two] = [await backup(folder, 'one', 1), await backup(folder, 'two', 2)]
    const request = requestFor(folder, 'restore-1', one.links)
    const { journal } = restoreFiles(request.targetPath)
    const first = restoreDiskTo(request)
    while ((await stat(journal).catch(() => null)) === null) await delay(1)
    for (const second of [requestFor(folder, 'restore-2', two.links), requestFor(folder, 'restore-3', one.links)]) {
      const refusal = await failureOf(restoreDiskTo(second))
      expect(refusal).toMatchObject({ code: 'RESTORE_TARGET_EXISTS', retryable: false, details: { restore_id: 'restore-1' } })
      await expect(checkRestoreTarget(second.targetPath, second.restoreId)).rejects.toMatchObject({
        code: 'RESTORE_TARGET_EXISTS',
      })
      await discardRestore(second.targetPath, second.restoreId)
    }
    await first
    expect((await readFile(request.targetPath)).equals(await readFile(one.raw))).toBe(true)
    expect(await readdir(folder)).not.toContain('target.raw.partial')
  })

  it('that took over is not named as the first one, nor written into its journal', async () => {
    const { files, journal } = await finishedPartial()
    const mine = journal.file!
    await rename(files.partial, `${files.partial}-mine`)
    await writeFile(files.partial, 'half of something else')
    await writeRestoreJournal(files.journal, { ...journal, restoreId: 'restore-2', reachedBytes: 0 })
    await expect(publishTarget(files, 'restore-1', mine)).rejects.toMatchObject({ code: 'RESTORE_TARGET_EXISTS' })
    const checkpoints = checkpointsOf(files, journal)
    await expect(checkpoints.finish()).rejects.toMatchObject({ code: 'RESTORE_TARGET_EXISTS' })
    expect(await readRestoreJournal(files.journal)).toMatchObject({ restoreId: 'restore-2', reachedBytes: 0 })
    expect(await names(files)).not.toContain('target.raw')
  })
})

describe('an unfinished file', () => {
  it('that somebody replaced gets no name, and the restore starts again', async () => {
    const { files, journal } = await finishedPartial()
    const mine = journal.file!
    await rename(files.partial, `${files.partial}-mine`)
    await writeFile(files.partial, 'something else')
    const replaced = { code: 'DISK_WRITE_FAILED', retryable: true }
    await expect(publishTarget(files, 'restore-1', mine)).rejects.toMatchObject(replaced)
    await expect(checkpointsOf(files, journal).finish()).rejects.toMatchObject(replaced)
    expect(await names(files)).not.toContain('target.raw')
  })

  it('that is a link is not followed', async () => {
    const { files, journal } = await finishedPartial()
    await rename(files.partial, `${files.partial}-mine`)
    await symlink(`${files.partial}-mine`, files.partial)
    await expect(publishTarget(files, 'restore-1', journal.file!)).rejects.toMatchObject({ code: 'DISK_WRITE_FAILED' })
  })

  it('with broken references gets no name', async () => {
    const path = join(await temporaryFolder(), 'image.qcow2')
    await createImage({ path, sizeBytes: 64 * MIB, compression: 'none', backing: null })
    await tidyImage(path, undefined)
    const bytes = await readFile(path)
    const l1 = Number(bytes.readBigUInt64BE(40))
    // An L2 table where none can be: far beyond the end of the file.
    bytes.writeBigUInt64BE((1n << 63n) | (1n << 40n), l1)
    await writeFile(path, bytes)
    await expect(tidyImage(path, undefined)).rejects.toMatchObject({ code: 'DISK_WRITE_FAILED', retryable: true })
  })
})

describe('where files cannot have two names', () => {
  it('the target gets its name, which nobody may have', async () => {
    const { files, journal } = await finishedPartial()
    await writeFile(files.target, 'mine')
    await expect(renameWithoutReplacing(files, journal)).rejects.toMatchObject({ code: 'RESTORE_TARGET_EXISTS' })
    expect(await readFile(files.target, 'utf8')).toBe('mine')
    await rm(files.target)
    await renameWithoutReplacing(files, journal)
    expect(await identityOf(files.target)).toEqual(journal.file)
  })

  it('a crash before the rename leaves no file in the way of the next attempt', async () => {
    const folder = await temporaryFolder()
    const one = await backup(folder, 'one', 1)
    const request = requestFor(folder, 'restore-1', one.links)
    const files = restoreFiles(request.targetPath)
    await expect(withCrashBeforeRename(files, request)).resolves.toMatchObject({ reachedBytes: sizeBytes })
    expect(await restoreDiskTo(request)).toEqual({ restoredBytes: sizeBytes, resumedAtBytes: sizeBytes })
    expect((await readFile(request.targetPath)).equals(await readFile(one.raw))).toBe(true)
    expect((await names(files)).filter((name) => name.startsWith('target.raw'))).toEqual(['target.raw'])
  })

  it('such a crash is cleaned up, but a file that somebody has written since is theirs', async () => {
    const { files, journal } = await finishedPartial()
    const crashed = async (): Promise<void> => {
      await writeFile(files.target, '')
      await writeRestoreJournal(files.journal, { ...journal, placeholder: await identityOf(files.target) })
    }
    await crashed()
    await discardRestore(files.target, 'restore-1')
    expect(await names(files)).toEqual([])
    await crashed()
    await writeFile(files.target, 'mine')
    await discardRestore(files.target, 'restore-1')
    expect(await readFile(files.target, 'utf8')).toBe('mine')
  })
})

describe('the journal', () => {
  it('is not written through a link that somebody laid out', async () => {
    const { files, journal } = await finishedPartial()
    const victim = `${files.target}-victim`
    await writeFile(victim, 'precious')
    for (const lay of [symlink, link]) {
      await lay(victim, `${files.journal}.new`)
      await writeRestoreJournal(files.journal, { ...journal, reachedBytes: 0 })
      expect(await readFile(victim, 'utf8')).toBe('precious')
      expect(await readRestoreJournal(files.journal)).toMatchObject({ reachedBytes: 0 })
    }
  })

  it('leaves nothing beside it when it could not be replaced', async () => {
    const { files, journal } = await finishedPartial()
    await rm(files.journal)
    await mkdir(files.journal)
    await expect(writeRestoreJournal(files.journal, journal)).rejects.toMatchObject({ code: 'EISDIR' })
    expect(await names(files)).toEqual(['target.raw.partial', 'target.raw.partial.journal'])
  })

  it('claims nothing after a flush that failed, although the next would succeed', async () => {
    const { files, journal } = await finishedPartial()
    await writeRestoreJournal(files.journal, { ...journal, reachedBytes: 0 })
    let calls = 0
    // As Linux does it: a failed write-back is reported once.
    const sync = async (): Promise<void> => {
      if (calls++ === 0) throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO', syscall: 'fsync' })
    }
    const checkpoints = checkpointsOf(files, journal, sync)
    await expect(new Promise((_, reject) => checkpoints.consider(reject))).rejects.toThrow('EIO')
    await expect(checkpoints.finish()).rejects.toThrow('EIO')
    await expect(checkpoints.finish()).rejects.toThrow('EIO')
    expect(calls).toBe(1)
    expect(checkpoints.durableBytes).toBe(0)
    expect(await readRestoreJournal(files.journal)).toMatchObject({ reachedBytes: 0 })
  })
})

function checkpointsOf(files: RestoreFiles, journal: RestoreJournal, sync = async (): Promise<void> => {}): RestoreCheckpoints {
  const claims = RangeClaims.create(MIB, MIB, 1)
  const often = { checkpointIntervalMs: 0, checkpointIntervalBytes: 1 }
  const { restoreId } = journal
  return new RestoreCheckpoints({
    files,
    identity: { restoreId, ...identity },
    file: journal.file!,
    claims,
    startBytes: 0,
    sync,
    ...often,
  })
}

/** Everything is written, the name is held by an empty file, and then the power goes. Returns what the journal says. */
async function withCrashBeforeRename(files: RestoreFiles, request: RestoreRequest): Promise<RestoreJournal> {
  const { disk, backupId } = request.links.at(-1)!
  await restoreDiskTo(request)
  await rename(files.target, files.partial)
  await writeFile(files.target, '')
  const journal = {
    restoreId: request.restoreId,
    backupId,
    diskIndex: disk.index,
    blocksSha256: disk.blocks_sha256,
    sizeBytes: disk.size_bytes,
    targetFormat: request.targetFormat,
    reachedBytes: disk.size_bytes,
    file: await identityOf(files.partial),
    placeholder: await identityOf(files.target),
  }
  await writeRestoreJournal(files.journal, journal)
  return journal
}
