/** How much space a folder's file system has and whether it takes a file, asked so that a dead share cannot hang us. */
import { randomBytes } from 'node:crypto'
import { readFile, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { StorageInfo } from '../domain/storage.ts'
import { syncFolder, writeDurably } from './durable-files.ts'
import { errnoOf, onFiles } from './file-errors.ts'

const DEADLINE_MS = 10_000

/** Begins the names of the files that a probe writes; one may stay behind when the machine dies in between. */
export const PROBE_PREFIX = '.holdfast-write-test-'

/** Probes that have not come back. A call on a dead share occupies a thread of Node's pool until the kernel gives up: one per root, never more. */
const pending = new Map<string, Promise<StorageInfo>>()

/**
 * Space in bytes, and whether a file can be written, synced, read back and removed. `REPO_UNAVAILABLE` after 10 s, or when the folder cannot be read;
 * `REPO_INVALID` when other bytes come back.
 */
export async function probeStorage(root: string): Promise<StorageInfo> {
  const probe = pending.get(root) ?? startProbe(root)
  const waiting = new AbortController()
  const deadline = delay(DEADLINE_MS, null, { signal: waiting.signal }).catch(() => null)
  try {
    const storage = await Promise.race([probe, deadline])
    if (storage !== null) return storage
  } finally {
    waiting.abort()
  }
  throw new HoldfastError(
    'REPO_UNAVAILABLE',
    `Repository ${root} did not answer within ${DEADLINE_MS / 1000} s: check the share.`,
    {
      details: { path: root, timeout_ms: DEADLINE_MS },
    },
  )
}

function startProbe(root: string): Promise<StorageInfo> {
  const probe = measureStorage(root).finally(() => pending.delete(root))
  pending.set(root, probe)
  // Whoever waited may have left at the deadline: the late answer is nobody's unhandled rejection.
  probe.catch(() => {})
  return probe
}

/** The same without a time limit, for a process that may hang. */
export function measureStorage(root: string): Promise<StorageInfo> {
  return onFiles(root, 'read the free space', () => measure(root))
}

async function measure(root: string): Promise<StorageInfo> {
  const stats = await statfs(root)
  return {
    totalBytes: stats.blocks * stats.bsize,
    usedBytes: (stats.blocks - stats.bfree) * stats.bsize,
    availableBytes: stats.bavail * stats.bsize,
    totalInodes: stats.files,
    usedInodes: stats.files - stats.ffree,
    writable: await takesFile(root),
  }
}

async function takesFile(root: string): Promise<boolean> {
  const file = join(root, PROBE_PREFIX + randomBytes(6).toString('hex'))
  const content = Buffer.concat([Buffer.from(PROBE_TEXT), randomBytes(4096)])
  try {
    await writeDurably(file, content)
    const found = await readFile(file)
    await rm(file)
    await syncFolder(root)
    if (!found.equals(content)) throw gaveBackOtherBytes(root)
    return true
  } catch (error) {
    await rm(file, { force: true }).catch(() => {
      // It could not be written, so it most likely is not there; the first error is the one that counts.
    })
    if (refusals.has(errnoOf(error) ?? '')) return false
    throw error
  }
}

const PROBE_TEXT = 'Holdfast checks that it can write here; this file may be deleted.\n'

function gaveBackOtherBytes(root: string): HoldfastError {
  return new HoldfastError(
    'REPO_INVALID',
    `${root} gave back other bytes than were written to it: nothing can be kept there. Check the disk, the share, and what lies between.`,
    { details: { path: root } },
  )
}

/** Answers of a file system that works but does not take our file. Anything else is a failure, not an answer. */
const refusals = new Set(['EROFS', 'EACCES', 'EPERM', 'ENOSPC', 'EDQUOT'])
