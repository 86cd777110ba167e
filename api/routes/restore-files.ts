/** Files of a restore mount: browse, count, look for, download. */
import { createRoute } from '@hono/zod-openapi'
import type { FilePage, FolderEstimate } from '../../files/mounted-file.ts'
import { estimateAnswer, fileAnswer } from '../answers/restore-files.ts'
import { cursorByNumber, readNumberCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { filePathOf } from '../file-query.ts'
import type { FileAccesses } from '../file-access.ts'
import { permit } from '../middleware/authorize.ts'
import { readyMountOf } from '../mount-choice.ts'
import { fileListAnswer, fileListQuery, filePathQuery, folderEstimateAnswer } from '../schemas/restore-files.ts'
import { mountParameter } from '../schemas/restore-mounts.ts'
import { answers, createApi } from './route.ts'
import type { Api } from './route.ts'

const tags = ['files']

const listRoute = createRoute({
  method: 'get',
  path: '/restore/{mount_id}/files',
  tags,
  summary: 'A folder, in the order of the bytes of its names',
  middleware: permit('file.read'),
  request: { params: mountParameter, query: fileListQuery },
  responses: answers(200, 'One page', fileListAnswer),
})

const estimateRoute = createRoute({
  method: 'get',
  path: '/restore/{mount_id}/estimate',
  tags,
  summary: 'What a folder holds, before it is downloaded',
  description: 'Counts for at most 20 seconds.',
  middleware: permit('file.read'),
  request: { params: mountParameter, query: filePathQuery },
  responses: answers(200, 'Counted', folderEstimateAnswer),
})

export function restoreFiles(dependencies: ApiDependencies, files: FileAccesses): Api {
  return createApi()
    .openapi(listRoute, async (c) => {
      const { limit, cursor, path: asked } = c.req.valid('query')
      const path = filePathOf(c.req.url, asked)
      const first = readNumberCursor(cursor)
      const mount = await readyMountOf(dependencies, c.req.valid('param').mount_id)
      const page = await files.ask<FilePage>(c, {
        mount,
        action: 'file.list',
        resource: 'files',
        query: { path, first: String(first), most: String(limit) },
        details: { path, first },
      })
      const next = first + page.files.length
      return c.json(
        {
          success: true as const,
          mount_id: mount.id,
          path: page.path,
          files: page.files.map(fileAnswer),
          count: page.files.length,
          total_count: page.total,
          next_cursor: next < page.total && page.files.length > 0 ? cursorByNumber(next) : null,
        },
        200,
      )
    })
    .openapi(estimateRoute, async (c) => {
      const path = filePathOf(c.req.url, c.req.valid('query').path)
      const mount = await readyMountOf(dependencies, c.req.valid('param').mount_id)
      const access = { mount, action: 'file.estimate', resource: 'estimate', query: { path }, details: { path } } as const
      return c.json(estimateAnswer(mount.id, await files.ask<FolderEstimate>(c, access)), 200)
    })
}
