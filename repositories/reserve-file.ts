/**
 * `holdfast-reserve`: space that is set aside, so that a full repository can be made emptier. Many file systems need room even to delete:
 * for a directory's next block, for a copy of their own metadata. Nothing is ever read from it.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { fallocate } from '../tools/fallocate.ts'
import { syncFile, syncFolder } from './durable-files.ts'
import { errnoOf } from './file-errors.ts'
import { RESERVE_FILE } from './paths.ts'

const MIB = 1024 * 1024
const MAX_BYTES = 64 * MIB
const SHARE_OF_DISK = 0.01
const UNIT_BYTES = 4096

/** Made only where so many times its size are free: on a disk that is nearly full it would only have to go again. */
const ROOM_FACTOR = 4

/** 64 MiB, or a hundredth of a small disk. */
export function reserveFileBytes(totalBytes: number): number {
  const share = Math.ceil((totalBytes * SHARE_OF_DISK) / UNIT_BYTES) * UNIT_BYTES
  return Math.min(MAX_BYTES, share)
}

/** Makes the reserve, or what is missing of it, where there is room. Nothing happens where there is none. Idempotent. */
export async function keepReserve(root: string): Promise<void> {
  const path = join(root, RESERVE_FILE)
  const stats = await statfs(root)
  const wantedBytes = reserveFileBytes(stats.blocks * stats.bsize)
  const foundBytes = await sizeOf(path)
  if (foundBytes === null || foundBytes >= wantedBytes) return
  if (stats.bavail * stats.bsize < (wantedBytes - foundBytes) * ROOM_FACTOR) return
  try {
    if (!(await fallocate(path, wantedBytes))) await writeOut(path, wantedBytes)
    await syncFile(path)
  } catch (error) {
    // Others took the room meanwhile, or a quota ends here.
    await rm(path, { force: true })
    if (!isFull(error)) throw error
  }
  await syncFolder(root)
}

/** Gives the space back, durably: it can be used when this has returned. Idempotent. */
export async function releaseReserve(root: string): Promise<void> {
  await rm(join(root, RESERVE_FILE), { force: true })
  await syncFolder(root)
}

/** Whether a file operation, or a program, met a full file system or the end of a quota. */
export function isFull(error: unknown): boolean {
  if (error instanceof HoldfastError) return /No space left on device|Disk quota exceeded/.test(error.message)
  return ['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '')
}

/** 0: there is none. `null`: something else has the name, which is left alone. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    const stats = await lstat(path)
    return stats.isFile() ? stats.size : null
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0
    throw error
  }
}

/** What cannot be compressed: a file system that compresses would keep next to no space for zeroes. */
async function writeOut(path: string, sizeBytes: number): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants
  const file = await open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
  try {
    for (let left = sizeBytes; left > 0; left -= MIB) await file.writeFile(randomBytes(Math.min(left, MIB)))
  } finally {
    await file.close()
  }
}
