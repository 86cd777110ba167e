/**
 * Names of restored disks on the hypervisor's host. A disk is written under a name that holds its restore's id. When it gets the name it is
 * meant to have, the first name stays beside it until the whole VM is done: two names of one file prove, after any crash, whose it is.
 */
import { chmod, chown, link, lstat, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  errnoOf,
  identityOf,
  invalidTarget,
  isSameFile,
  onTarget,
  restoreFiles,
  syncFolderOf,
  targetExists,
} from '../../disks/restore-files.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { PlannedDisk } from '../source.ts'

/** Where a disk that will lie at `path` is written first. */
export function writePathOf(path: string, restoreId: string): string {
  return `${path}.holdfast-${restoreId}`
}

/** `written`: waits for its name. `named`: has it. `gone`: neither written, nor waiting any more. */
export type DiskStage = 'written' | 'named' | 'gone'

export async function stageOf({ writePath, path }: PlannedDisk): Promise<DiskStage> {
  const written = await identityOf(writePath)
  if (written === null) return 'gone'
  return isSameFile(written, await identityOf(path)) ? 'named' : 'written'
}

/** Gives a disk its name, which nobody else may have: `RESTORE_TARGET_EXISTS`. Idempotent. */
export async function giveName(disk: PlannedDisk): Promise<void> {
  const { writePath, path } = disk
  await onTarget(path, async () => {
    try {
      await link(writePath, path)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') throw vanished(writePath)
      if (errnoOf(error) !== 'EEXIST') throw error
      if ((await stageOf(disk)) !== 'named') throw targetExists(path)
    }
    await syncFolderOf(restoreFiles(path))
  })
}

/** Gives a disk the name, the owner and the mode of the original, which is gone with that. At once: the name always leads to one of the two. Idempotent. */
export async function takePlaceOf(disk: PlannedDisk): Promise<void> {
  const { writePath, path } = disk
  await onTarget(path, async () => {
    const original = await lstat(path).catch((error: unknown) => {
      // Somebody lost it; that is what backups are for.
      if (errnoOf(error) === 'ENOENT') return null
      throw error
    })
    if (original) {
      await chown(writePath, original.uid, original.gid)
      await chmod(writePath, original.mode & 0o7777)
    }
    const between = betweenPath(disk)
    await rm(between, { force: true })
    await link(writePath, between)
    await rename(between, path)
    await syncFolderOf(restoreFiles(path))
  })
}

/** Removes the first names; what has got its own name keeps that. Idempotent. */
export async function removeFirstNames(disks: readonly PlannedDisk[]): Promise<void> {
  for (const disk of disks) {
    await onTarget(disk.writePath, async () => {
      await rm(betweenPath(disk), { force: true })
      await rm(disk.writePath, { force: true })
    })
  }
}

/** Removes a disk that got a name which was free before, under both names. What else lies there stays. Idempotent. */
export async function removeNamed(disk: PlannedDisk): Promise<void> {
  if ((await stageOf(disk)) === 'named') await onTarget(disk.path, () => rm(disk.path, { force: true }))
}

function betweenPath({ writePath }: PlannedDisk): string {
  return `${writePath}.swap`
}

/** Leaves nothing behind. `RESTORE_TARGET_INVALID` when no file can be made there, or none can have two names. */
export async function checkFolder(path: string, restoreId: string): Promise<void> {
  const folder = dirname(path)
  const [first, second] = ['a', 'b'].map((name) => join(folder, `.holdfast-${restoreId}.${name}`))
  await onTarget(folder, async () => {
    try {
      await rm(first!, { force: true })
      await writeFile(first!, '', { flag: 'wx', mode: 0o600 })
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') throw invalidTarget(path, `there is no folder "${folder}"; make it first`, error)
      throw error
    }
    try {
      await rm(second!, { force: true })
      await link(first!, second!)
    } catch (error) {
      throw invalidTarget(path, `the file system of "${folder}" has no hard links, which a VM's restore needs`, error)
    } finally {
      await rm(second!, { force: true })
      await rm(first!, { force: true })
    }
  })
}

export function vanished(path: string): HoldfastError {
  return new HoldfastError('DISK_WRITE_FAILED', `"${path}", a restored disk, was removed by somebody else. Restore again.`, {
    details: { path },
    retryable: false,
  })
}
