/** What leaves a restore mount in streams: a file, a folder as an archive, the results of a search. */
import type { IncomingMessage } from 'node:http'
import { createRoute } from '@hono/zod-openapi'
import type { ApiDependencies } from '../dependencies.ts'
import type { FileAccesses } from '../file-access.ts'
import { filePathOf } from '../file-query.ts'
import { permit } from '../middleware/authorize.ts'
import { readyMountOf } from '../mount-choice.ts'
import { filePathQuery, fileSearchQuery, folderDownloadQuery, rangeHeaders, searchLine } from '../schemas/restore-files.ts'
import { mountParameter } from '../schemas/restore-mounts.ts'
import { searchLines } from '../search-lines.ts'
import { createApi, streams } from './route.ts'
import type { Api } from './route.ts'

const tags = ['files']
const binary = { type: 'string', format: 'binary' } as const

const downloadRoute = createRoute({
  method: 'get',
  path: '/restore/{mount_id}/download',
  tags,
  summary: 'The content of a file; takes HEAD, Range, If-Range, If-None-Match and If-Modified-Since',
  middleware: permit('file.read'),
  request: { params: mountParameter, query: filePathQuery, headers: rangeHeaders },
  responses: {
    ...streams(200, 'The file', { 'application/octet-stream': { schema: binary } }),
    206: { description: 'The part asked for', content: { 'application/octet-stream': { schema: binary } } },
    304: { description: 'What the client has is still good' },
  },
})

const folderRoute = createRoute({
  method: 'get',
  path: '/restore/{mount_id}/download-directory',
  tags,
  summary: 'A folder as an archive, made while it is sent',
  description:
    'What cannot be read, and what has no content, is listed in `_errors.txt` in the archive. An archive that breaks off is not complete: ask again.',
  middleware: permit('file.read'),
  request: { params: mountParameter, query: folderDownloadQuery },
  responses: streams(200, 'The archive', { 'application/zip': { schema: binary }, 'application/gzip': { schema: binary } }),
})

const searchRoute = createRoute({
  method: 'get',
  path: '/restore/{mount_id}/search',
  tags,
  summary: 'Files whose names match, below a folder, each told as it is found',
  middleware: permit('file.read'),
  request: { params: mountParameter, query: fileSearchQuery },
  responses: streams(200, 'A line for each, then the summary', { 'application/x-ndjson': { schema: searchLine } }),
})

const conditions = ['range', 'if-range', 'if-none-match', 'if-modified-since'] as const

export function restoreDownloads(dependencies: ApiDependencies, files: FileAccesses): Api {
  return createApi()
    .openapi(downloadRoute, async (c) => {
      const path = filePathOf(c.req.url, c.req.valid('query').path)
      const mount = await readyMountOf(dependencies, c.req.valid('param').mount_id)
      const headers = presentOf(c.req.valid('header'))
      const range = headers['range']
      const looks = c.req.method === 'HEAD'
      const access = { mount, resource: 'download', query: { path }, headers, details: { path, ...(range && { range }) } }
      return looks
        ? files.pass(c, { ...access, action: 'file.look' }, { headersOf: downloadHeaders })
        : files.pass(c, { ...access, action: 'file.download' }, { headersOf: downloadHeaders, endAction: 'file.download-ended' })
    })
    .openapi(folderRoute, async (c) => {
      const { format, path: asked } = c.req.valid('query')
      const path = filePathOf(c.req.url, asked)
      const mount = await readyMountOf(dependencies, c.req.valid('param').mount_id)
      const access = { mount, resource: 'download-directory', query: { path, format }, details: { path, format } }
      return files.pass(
        c,
        { ...access, action: 'file.download-directory' },
        { headersOf: downloadHeaders, endAction: 'file.download-directory-ended' },
      )
    })
    .openapi(searchRoute, async (c) => {
      const { limit, name, path: asked } = c.req.valid('query')
      const path = filePathOf(c.req.url, asked)
      const mount = await readyMountOf(dependencies, c.req.valid('param').mount_id)
      const query = { path, name, limit: String(limit) }
      return files.pass(
        c,
        { mount, action: 'file.search', resource: 'search', query, details: { path, name } },
        {
          headersOf: () => ({ 'Content-Type': 'application/x-ndjson' }),
          piecesOf: searchLines,
        },
      )
    })
}

function presentOf(given: Partial<Record<(typeof conditions)[number], string | undefined>>): Record<string, string> {
  return Object.fromEntries(conditions.flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]]])))
}

/** Whatever else the mover says stays between us and it. */
const passedOn = [
  'content-type',
  'content-length',
  'content-range',
  'accept-ranges',
  'etag',
  'last-modified',
  'content-disposition',
] as const

/** What comes out of a backup may be a page with a script in it: it is to be kept, and never to be shown as one of ours. */
function downloadHeaders({ headers }: IncomingMessage): Record<string, string> {
  return {
    'content-type': 'application/octet-stream',
    'content-disposition': 'attachment',
    ...Object.fromEntries(passedOn.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]]))),
    'content-security-policy': "sandbox; default-src 'none'; frame-ancestors 'none'",
    'cross-origin-resource-policy': 'same-origin',
  }
}
