/** What the file service says about files, as plain data: the API makes its answers of it. */
import type { FileKind } from '../mounts/file-reader.ts'

export interface MountedFile {
  name: string
  /** From the root of the mount; names the volume first when the mount has several. */
  path: string
  kind: FileKind | 'unknown'
  /** Permission bits: 0 to 0o7777. */
  mode: number
  uid: number
  gid: number
  /** 0 for anything but files. */
  sizeBytes: number
  /** RFC 3339 in UTC, nanoseconds; `null` when it could not be read. */
  modified: string | null
  /** Of a symbolic link. */
  target: string | null
  /** Why it cannot be read, if so. */
  problem: string | null
}

export interface FilePage {
  path: string
  total: number
  files: MountedFile[]
}

/** What a folder holds, counted before it is downloaded. */
export interface FolderEstimate {
  path: string
  files: number
  folders: number
  /** Links and devices: named in an archive, without content. */
  others: number
  /** Of the files, before compression. */
  bytes: number
  /** Entries that could not be read; the archive will list them. */
  problems: number
  /** False when the count was cut short: there is at least this much. */
  complete: boolean
}

/** One line of a search's answer; the last one is the summary. */
export type SearchLine = { type: 'file'; file: MountedFile } | ({ type: 'summary' } & SearchSummary)

export interface SearchSummary {
  /** Entries looked at. */
  searched: number
  found: number
  problems: number
  /** False when it was cut short by the number of results, entries or the time; `stoppedBy` says by which. */
  complete: boolean
  stoppedBy: 'results' | 'entries' | 'time' | null
}

/** The body of every failure of the file service; its code is one of the taxonomy. */
export interface FileServiceFailure {
  code: string
  message: string
  details: Record<string, unknown>
}
