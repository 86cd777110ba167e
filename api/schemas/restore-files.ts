/** Files on restore mounts. */
import { z } from '@hono/zod-openapi'
import { cursor, pageFields, sizeBytes, success } from './fields.ts'

/** Folders may be huge, and clients that know no cursors show one page. */
const FILES_PER_PAGE_MAX = 1_000
const SEARCH_RESULTS_MAX = 10_000

/** Checked as a path by itself (`file-query.ts`), so that what is wrong with it has a code of its own. */
const path = z.string().openapi({
  description:
    'Absolute on the mount: `/etc/hosts`; with several volumes `/partition-1/etc/hosts`. Names exactly as a listing gives them, percent-encoded.',
})

export const fileListQuery = z.strictObject({
  path: path.default('/'),
  limit: z.coerce.number().int().min(1).max(FILES_PER_PAGE_MAX).default(FILES_PER_PAGE_MAX),
  cursor: cursor.optional(),
})

export const filePathQuery = z.strictObject({ path })

export const folderDownloadQuery = z.strictObject({ path, format: z.enum(['zip', 'tar.gz']).default('zip') })

export const fileSearchQuery = z.strictObject({
  path: path.default('/'),
  name: z
    .string()
    .min(1)
    .max(1024)
    .openapi({ description: 'Part of a name, in any case; with `*` or `?` a pattern for the whole name' }),
  limit: z.coerce.number().int().min(1).max(SEARCH_RESULTS_MAX).default(1_000),
})

/** Of requests for content; a GET without them gives all of it. */
export const rangeHeaders = z.object({
  range: z.string().max(256).optional().openapi({ description: '`bytes=0-1023`, one range' }),
  'if-range': z.string().max(256).optional(),
  'if-none-match': z.string().max(1024).optional(),
  'if-modified-since': z.string().max(256).optional(),
})

export const mountedFile = z
  .strictObject({
    name: z.string().openapi({
      description: 'A byte that is no UTF-8 stands as the character U+F700 + byte; asked for with that, it is found again',
    }),
    path: z.string().openapi({ description: 'For browsing and downloading it' }),
    type: z
      .enum(['file', 'directory'])
      .openapi({ description: 'For an icon: `directory` can be opened; everything else is `file`' }),
    kind: z
      .enum(['file', 'directory', 'symlink', 'fifo', 'socket', 'block-device', 'character-device', 'unknown'])
      .openapi({ description: 'What it really is; only `file` can be downloaded' }),
    size: sizeBytes.openapi({ description: '0 for anything but files' }),
    mode: z.string().openapi({ description: 'Permission bits in octal, four digits: `0644`' }),
    modified_time: z.iso.datetime().nullable().openapi({ description: 'UTC, up to nanoseconds; null when it could not be read' }),
    is_symlink: z.boolean(),
    link_target: z.string().nullable().openapi({ description: 'As it is written in the link, which is not followed' }),
    uid: z.int().min(0),
    gid: z.int().min(0),
    problem: z.string().nullable().openapi({ description: 'Why it cannot be read, if so' }),
  })
  .openapi('MountedFile')

export const fileListAnswer = z
  .strictObject({ success, mount_id: z.string(), path: z.string(), files: z.array(mountedFile), ...pageFields })
  .openapi('FileList')

export const folderEstimateAnswer = z
  .strictObject({
    success,
    mount_id: z.string(),
    path: z.string(),
    file_count: z.int().min(0),
    folder_count: z.int().min(0),
    other_count: z.int().min(0).openapi({ description: 'Links and devices: without content in an archive' }),
    problem_count: z.int().min(0).openapi({ description: 'What cannot be read; the archive lists them' }),
    total_bytes: sizeBytes.openapi({ description: 'Of the files, before compression' }),
    complete: z.boolean().openapi({ description: 'False when counting was cut short: there is at least this much' }),
  })
  .openapi('FolderEstimate')

const foundFile = z.strictObject({ type: z.literal('file'), file: mountedFile })

const searchSummary = z.strictObject({
  type: z.literal('summary'),
  searched: z.int().min(0),
  found: z.int().min(0),
  problems: z.int().min(0),
  complete: z.boolean(),
  stopped_by: z.enum(['results', 'entries', 'time']).nullable().openapi({ description: 'What cut it short, if so' }),
})

/** The last line is the summary; without one the search broke off. */
export const searchLine = z.union([foundFile, searchSummary]).openapi('FileSearchLine')
