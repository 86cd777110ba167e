/** Starts the file service: plain on loopback, TLS with a certificate of its own anywhere else. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Server, ServerOptions } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { getRequestListener } from '@hono/node-server'
import type { createFileService } from './file-service.ts'
import { isLoopback, makeCertificate, reachableHost } from './certificate.ts'
import type { KeyAndCertificate } from './certificate.ts'

/** A client that takes nothing for so long is gone, or holds what others could use. */
const STALLED_MS = 600_000
/** A path of the longest kind, percent-encoded, and then some. */
const HEADERS_MAX_BYTES = 512 * 1024
/** The API keeps its connections for the next request. */
const KEEP_ALIVE_MS = 60_000
const HEADERS_WITHIN_MS = 30_000

export interface FileServerOptions {
  app: ReturnType<typeof createFileService>
  host: string
  /** 0: any that is free. */
  port: number
  /** Default ten minutes. */
  stalledMs?: number
}

export interface FileServer {
  /** Where the API finds it, without a slash at the end. */
  url: string
  /** PEM of the one certificate to trust; `null` on loopback, where there is none. */
  certificate: string | null
  /** Breaks off what runs. Idempotent. */
  close(): Promise<void>
}

/** Rejects with the system's error when it cannot listen, and with what {@link makeCertificate} throws. */
export async function startFileServer({ app, host, port, stalledMs = STALLED_MS }: FileServerOptions): Promise<FileServer> {
  const name = reachableHost(host)
  const tls = isLoopback(host) ? null : await makeCertificate(name)
  const server = createHttpServer(tls)
  const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false })
  server.on('request', (incoming, outgoing) => void listener(incoming, outgoing))
  // Bytes that a client takes slowly count as life.
  server.setTimeout(stalledMs)
  server.listen(port, host)
  await once(server, 'listening')
  const address = server.address()
  const bound = typeof address === 'object' && address ? address.port : port
  const closed = once(server, 'close')
  return {
    url: `${tls ? 'https' : 'http'}://${name.includes(':') ? `[${name}]` : name}:${bound}`,
    certificate: tls?.certificate ?? null,
    async close() {
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

function createHttpServer(tls: KeyAndCertificate | null): Server {
  const options: ServerOptions = {
    maxHeaderSize: HEADERS_MAX_BYTES,
    keepAliveTimeout: KEEP_ALIVE_MS,
    headersTimeout: HEADERS_WITHIN_MS,
  }
  return tls ? createTlsServer({ ...options, key: tls.key, cert: tls.certificate }) : createServer(options)
}
