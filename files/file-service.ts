/**
 * The mover's side of file-level restore: an HTTP service for the API, and nobody else. Every request is signed (security/signed-requests.ts).
 *
 *     GET|HEAD /mounts/{id}/files?path=&first=&most=           FilePage
 *     GET      /mounts/{id}/volumes                            { volumes: Volume[] }
 *     GET|HEAD /mounts/{id}/download?path=                     the file; Range, If-Range, If-None-Match, If-Modified-Since
 *     GET|HEAD /mounts/{id}/download-directory?path=&format=   zip (default) or tar.gz
 *     GET      /mounts/{id}/estimate?path=                     FolderEstimate
 *     GET      /mounts/{id}/search?path=&name=&limit=          SearchLine, one JSON object a line
 *
 * Failures are a FileServiceFailure. One that comes after the first byte breaks the connection.
 */
import type { HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import type { Context, Next } from 'hono'
import { HoldfastError } from '../domain/errors.ts'
import type { OpenMounts } from '../mounts/open-mounts.ts'
import type { Logger } from '../runtime/logger.ts'
import { ANSWER_SIGNATURE, checkSignature, signAnswer } from '../security/signed-requests.ts'
import { ActiveStreams } from './active-streams.ts'
import { archiveFolder, archiveName } from './archive.ts'
import { contentHeaders, openDownload } from './download.ts'
import { estimateFolder } from './estimate.ts'
import { listFolder } from './listing.ts'
import { MountTree } from './mount-tree.ts'
import { choice, text, wholeNumber } from './query.ts'
import { SEARCH_RESULTS_MAX, searchBounds, searchFolder } from './search.ts'
import { beginContent, sendContent } from './send-content.ts'
import { answerServiceFailure } from './service-failures.ts'

export interface FileServiceOptions {
  mounts: OpenMounts
  /** From `loadFilesKey`. */
  key: Uint8Array
  /** Called often; see {@link AccessNotes}. */
  noteAccess: (mountId: string) => void
  logger: Logger
  now: () => Date
  /** Long answers of a mount at a time. Default 32. */
  streamsPerMount?: number
}

interface Env {
  Bindings: HttpBindings
  Variables: { mountId: string; tree: MountTree; signal: AbortSignal }
}
type Service = Hono<Env>
type Request = Context<Env>

/** Node's own server must serve it: answers are written as fast as their connection takes them. */
export function createFileService(options: FileServiceOptions): Service {
  const streams = new ActiveStreams({
    noteAccess: options.noteAccess,
    now: options.now,
    ...(options.streamsPerMount !== undefined && { perMount: options.streamsPerMount }),
  })
  const app: Service = new Hono<Env>()
  app.use((c, next) => admit(c, next, options))
  app.use('/mounts/:id/*', (c, next) => findMount(c, next, options))
  app.get('/mounts/:id/files', async (c) =>
    c.json(await listFolder(c.var.tree, c.req.query('path') ?? '/', pageOf(c), c.var.signal)),
  )
  app.get('/mounts/:id/volumes', (c) => c.json({ volumes: c.var.tree.volumes }))
  app.get('/mounts/:id/download', (c) => download(c, streams, options))
  app.get('/mounts/:id/download-directory', (c) => downloadFolder(c, streams))
  app.get('/mounts/:id/estimate', (c) =>
    streams.run(c.var.mountId, async () => c.json(await estimateFolder(c.var.tree, c.req.query('path') ?? '/', c.var.signal))),
  )
  app.get('/mounts/:id/search', (c) => search(c, streams))
  app.notFound((c) => {
    throw new HoldfastError('ROUTE_NOT_FOUND', `The file service has no ${c.req.method} ${c.req.path}.`)
  })
  app.onError((error, c) => answerServiceFailure(error, c, c.env.outgoing, options.logger))
  return app
}

async function admit(c: Request, next: Next, { key, now }: FileServiceOptions): Promise<void> {
  const { method = '', url: target = '', socket } = c.env.incoming
  const authorization = c.req.header('Authorization')
  checkSignature(key, { method, port: socket.localPort ?? 0, target }, authorization, now().getTime())
  c.env.outgoing.setHeader(ANSWER_SIGNATURE, signAnswer(key, authorization ?? ''))
  await next()
}

/** Also gives the request a signal for when the client goes away. */
async function findMount(c: Request, next: Next, { mounts, noteAccess }: FileServiceOptions): Promise<void> {
  const mountId = c.req.param('id') ?? ''
  const mount = mounts.find(mountId)
  if (!mount) {
    throw new HoldfastError('MOUNT_INTERRUPTED', `The mount "${mountId}" is not open here just now. Try again shortly.`, {
      details: { mount_id: mountId },
    })
  }
  noteAccess(mountId)
  const gone = new AbortController()
  const { outgoing } = c.env
  outgoing.once('close', () => gone.abort(new HoldfastError('CANCELLED', 'The client is gone.')))
  c.set('mountId', mountId)
  c.set('tree', new MountTree(mount.reader))
  c.set('signal', gone.signal)
  await next()
}

function pageOf(c: Request): { first: number; most: number } {
  const query = c.req.query()
  return {
    first: wholeNumber(query, 'first', { fallback: 0, min: 0, max: Number.MAX_SAFE_INTEGER }),
    most: wholeNumber(query, 'most', { fallback: 1_000, min: 1, max: 5_000 }),
  }
}

function download(c: Request, streams: ActiveStreams, { now }: FileServiceOptions): Promise<Response> {
  return streams.run(c.var.mountId, async (used) => {
    const request = {
      path: text(c.req.query(), 'path'),
      method: c.req.method,
      range: c.req.header('Range'),
      ifRange: c.req.header('If-Range'),
      ifNoneMatch: c.req.header('If-None-Match'),
      ifModifiedSince: c.req.header('If-Modified-Since'),
    }
    const answer = await openDownload(c.var.tree, c.var.mountId, request, now().getTime(), c.var.signal)
    return send(c, answer.status, answer.headers, answer.content && (await beginContent(answer.content)), used)
  })
}

function downloadFolder(c: Request, streams: ActiveStreams): Promise<Response> {
  return streams.run(c.var.mountId, async (used) => {
    const { tree, signal } = c.var
    const path = text(c.req.query(), 'path')
    const format = choice(c.req.query(), 'format', ['zip', 'tar.gz'])
    await tree.list(path, { first: 0, most: 0 }, signal)
    const headers = contentHeaders(archiveName(path, format))
    const content = c.req.method === 'HEAD' ? null : await beginContent(archiveFolder(tree, path, format, signal))
    return send(c, 200, headers, content, used)
  })
}

function search(c: Request, streams: ActiveStreams): Promise<Response> {
  return streams.run(c.var.mountId, async (used) => {
    const { tree, signal } = c.var
    const query = c.req.query()
    const wanted = { path: c.req.query('path') ?? '/', name: text(query, 'name') }
    const results = wholeNumber(query, 'limit', { fallback: searchBounds.results, min: 1, max: SEARCH_RESULTS_MAX })
    await tree.list(wanted.path, { first: 0, most: 0 }, signal)
    const lines = searchFolder(tree, wanted, signal, { ...searchBounds, results })
    return send(c, 200, { 'Content-Type': 'application/x-ndjson' }, c.req.method === 'HEAD' ? null : asText(lines), used)
  })
}

async function* asText(lines: AsyncIterable<object>): AsyncGenerator<Uint8Array, void, void> {
  for await (const line of lines) yield Buffer.from(`${JSON.stringify(line)}\n`)
}

/** Resolves when the client has it all, or is gone. */
async function send(
  c: Request,
  status: number,
  headers: Record<string, string>,
  content: AsyncIterable<Uint8Array> | null,
  used: () => void,
): Promise<Response> {
  const { outgoing } = c.env
  outgoing.writeHead(status, headers)
  // The first byte may be long in coming: of a search, when there is little to find.
  outgoing.flushHeaders()
  if (content) await sendContent(outgoing, content, used)
  else outgoing.end()
  return RESPONSE_ALREADY_SENT
}
