/**
 * The contract of a driver: what reads the files of a disk. `conformance.ts` is its suite.
 *
 * A driver never lets anything it reads decide what is opened on the host: paths are walked name by name, symbolic links are told and
 * never followed, and only regular files are opened. Names are text as `file-names.ts` makes it from bytes.
 */
import type { HoldfastError } from '../domain/errors.ts'
import type { Volume } from '../domain/restore-mount.ts'

export type FileKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'block-device' | 'character-device'

export interface FileStatus {
  kind: FileKind
  /** Permission bits with set-uid, set-gid and sticky: 0 to 0o7777. */
  mode: number
  uid: number
  gid: number
  /** 0 for anything but files. */
  sizeBytes: number
  inode: number
  links: number
  modifiedSeconds: number
  modifiedNanoseconds: number
  /** Of a symbolic link, as it is written there; `null` for anything else. */
  target: string | null
}

export interface Entry {
  name: string
  /** `null` when even that could not be read; `problem` says why, in the words of `file-errors.ts`. */
  status: FileStatus | null
  problem: string | null
}

export interface EntryPage {
  /** Of the whole folder. */
  total: number
  entries: Entry[]
}

/** A range of a file, in bytes. It may reach beyond the end: what is there is read. */
export interface ByteRange {
  offset: number
  length: number
}

/**
 * Reads one disk. Paths begin at the root of a volume: names joined by `/`, none at the beginning or end, the root is the empty text.
 *
 * Every method throws `FILE_NOT_FOUND`, `NOT_A_DIRECTORY`, `NOT_A_FILE` (`read` of anything but a regular file), `FILE_READ_FAILED` (this
 * place of the file system is damaged; others may be readable), `MOUNT_INTERRUPTED` (retryable: the reader is gone, or did not answer for so long
 * that it was ended). A path that leads through a symbolic link is `NOT_A_DIRECTORY`. With `signal` aborted, its reason.
 */
export interface FileReader {
  readonly volumes: readonly Volume[]
  /** Entries in the order of their names' bytes, `.` and `..` left out. Only those of the page are looked at. */
  list(volume: Volume, path: string, page: { first: number; most: number }, signal?: AbortSignal): Promise<EntryPage>
  status(volume: Volume, path: string, signal?: AbortSignal): Promise<FileStatus>
  /**
   * A regular file's bytes in order, in pieces of up to 2 MiB that are the caller's to keep. Reads ahead a few pieces and no further, however slowly
   * they are taken. Ends at the end of the file. Leaving the iteration ends the reading.
   */
  read(volume: Volume, path: string, range: ByteRange, signal?: AbortSignal): AsyncIterableIterator<Uint8Array>
  /** Settles with the reason when it is gone although nobody closed it. Never rejects. */
  readonly failed: Promise<HoldfastError>
  /** Ends what runs with `MOUNT_INTERRUPTED` and leaves nothing behind. Idempotent. */
  close(): Promise<void>
}
