/** A file service on loopback, over folders of this host, and a client that signs as the API does. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { Agent as TlsAgent, request as tlsRequest } from 'node:https'
import { buffer } from 'node:stream/consumers'
import { pino } from 'pino'
import type { Volume } from '../domain/restore-mount.ts'
import { createFileService } from '../files/file-service.ts'
import { startFileServer } from '../files/serve-files.ts'
import { createFolderReader } from '../mounts/kernel/folder-reader.ts'
import type { FolderVolume } from '../mounts/kernel/folder-reader.ts'
import { OpenMounts } from '../mounts/open-mounts.ts'
import type { RestoreMount } from '../mounts/restore-mount.ts'
import { signRequest } from '../security/signed-requests.ts'

export interface Answer {
  status: number
  headers: IncomingMessage['headers']
  body: Buffer
}

export interface Asking {
  method?: string
  headers?: Record<string, string>
  /** Instead of a right signature; `null`: none. */
  authorization?: string | null
}

export interface ServedFiles {
  readonly mountId: string
  readonly key: Uint8Array
  readonly server: { url: string; certificate: string | null }
  readonly mount: RestoreMount
  readonly mounts: OpenMounts
  /** Ids of mounts, one for every time that an access was noted. */
  readonly noted: string[]
  /** `path` as in `download?path=%2Fa`, below the mount. */
  ask(path: string, asking?: Asking): Promise<Answer>
  /** The answer as it comes; destroy it to go away. */
  open(path: string, asking?: Asking): Promise<IncomingMessage>
  /** The answer's JSON. */
  json(path: string): Promise<unknown>
  close(): Promise<void>
}

export function volume(id: string, changes: Partial<Volume> = {}): Volume {
  return { id, state: 'readable', fileSystem: 'ext4', label: '', uuid: '', sizeBytes: 1024 ** 3, note: '', ...changes }
}

export async function serveFiles(
  volumes: readonly FolderVolume[],
  options: { host?: string; stalledMs?: number; streamsPerMount?: number; now?: () => Date } = {},
): Promise<ServedFiles> {
  const mountId = `mount-${randomBytes(4).toString('hex')}`
  const key = randomBytes(32)
  const mounts = new OpenMounts(4)
  const mount = restoreMount(mountId, volumes)
  await mounts.open(mountId, () => Promise.resolve(mount))
  const noted: string[] = []
  const now = options.now ?? (() => new Date())
  const { streamsPerMount, stalledMs } = options
  const app = createFileService({
    mounts,
    key,
    noteAccess: (id) => noted.push(id),
    logger: pino({ level: 'silent' }),
    now,
    ...(streamsPerMount !== undefined && { streamsPerMount }),
  })
  const server = await startFileServer({
    app,
    host: options.host ?? '127.0.0.1',
    port: 0,
    ...(stalledMs !== undefined && { stalledMs }),
  })
  const agent = server.certificate === null ? new Agent({ keepAlive: true }) : new TlsAgent({ ca: server.certificate })
  const open = async (path: string, asking: Asking = {}): Promise<IncomingMessage> => {
    const target = `/mounts/${mountId}/${path}`
    const { method = 'GET' } = asking
    const authorization =
      asking.authorization === undefined
        ? signRequest(key, { method, port: Number(new URL(server.url).port), target }, now().getTime())
        : asking.authorization
    const headers = { ...asking.headers, ...(authorization !== null && { authorization }) }
    const sent = (server.certificate === null ? request : tlsRequest)(`${server.url}${target}`, { method, headers, agent })
    sent.end()
    const [answer] = (await once(sent, 'response')) as [IncomingMessage]
    // Whoever destroys it knows that it broke.
    sent.on('error', () => undefined)
    return answer
  }
  const ask = async (path: string, asking?: Asking): Promise<Answer> => {
    const answer = await open(path, asking)
    return { status: answer.statusCode ?? 0, headers: answer.headers, body: await buffer(answer) }
  }
  return {
    mountId,
    key,
    server,
    mount,
    mounts,
    noted,
    ask,
    open,
    json: async (path) => JSON.parse((await ask(path)).body.toString()) as unknown,
    async close() {
      agent.destroy()
      await server.close()
      await mounts.closeAll()
    },
  }
}

function restoreMount(mountId: string, volumes: readonly FolderVolume[]): RestoreMount {
  const reader = createFolderReader(volumes)
  return {
    mountId,
    driver: 'kernel',
    reader,
    device: '',
    folder: '',
    failed: reader.failed,
    close: () => reader.close(),
  }
}
