/** What a file system of this host says about an entry, as the contract of drivers has it. */
import type { BigIntStats } from 'node:fs'
import { lstat, readlink } from 'node:fs/promises'
import { nameFromBytes } from '../file-names.ts'
import type { FileKind, FileStatus } from '../file-reader.ts'

/** Rejects with the kernel's error. Links are told, not followed. */
export async function readStatus(path: Buffer): Promise<FileStatus> {
  const found = await lstat(path, { bigint: true })
  const kind = kindOf(found)
  return {
    kind,
    mode: Number(found.mode) & 0o7777,
    uid: Number(found.uid),
    gid: Number(found.gid),
    sizeBytes: kind === 'file' ? Number(found.size) : 0,
    inode: Number(found.ino),
    links: Number(found.nlink),
    modifiedSeconds: Number((found.mtimeNs - nanosecondsOf(found.mtimeNs)) / SECOND),
    modifiedNanoseconds: Number(nanosecondsOf(found.mtimeNs)),
    target: kind === 'symlink' ? nameFromBytes(await readlink(path, { encoding: 'buffer' })) : null,
  }
}

const SECOND = 1_000_000_000n

/** 0 to 999 999 999 also before 1970. */
function nanosecondsOf(time: bigint): bigint {
  return ((time % SECOND) + SECOND) % SECOND
}

function kindOf(found: BigIntStats): FileKind {
  if (found.isFile()) return 'file'
  if (found.isDirectory()) return 'directory'
  if (found.isSymbolicLink()) return 'symlink'
  if (found.isFIFO()) return 'fifo'
  if (found.isSocket()) return 'socket'
  return found.isBlockDevice() ? 'block-device' : 'character-device'
}
