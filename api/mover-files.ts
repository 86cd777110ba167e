/** The way to the movers' file services: finds the one of a host, signs what is asked of it, and hands its answer on unread. */
import { X509Certificate } from 'node:crypto'
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Catalog } from '../db/client.ts'
import { findMoverEndpoint } from '../db/queries/mover-endpoints.ts'
import type { MoverEndpoint } from '../db/queries/mover-endpoints.ts'
import { HoldfastError } from '../domain/errors.ts'
import { ANSWER_SIGNATURE, isSignedAnswer, signRequest } from '../security/signed-requests.ts'
import { moverFailure } from './mover-failure.ts'

/** A mover that cannot be reached for so long is taken for dead. */
const CONNECT_MS = 5_000
/** The first byte of an answer: counting a large folder comes before it. */
const ANSWER_MS = 90_000

export interface MoverFileRequest {
  method: 'GET' | 'HEAD'
  hostId: string
  mountId: string
  /** What of the mount: `files`, `download` … */
  resource: string
  query: Record<string, string>
  /** Passed on as they are. */
  headers?: Record<string, string>
  /** Ends the request at once, at any time, also while its answer is being read. */
  signal: AbortSignal
}

export interface MoverFiles {
  /**
   * The answer of the mover, its body still to be read. Its failures are thrown with their own codes; `MOVER_UNAVAILABLE` when none is there or it does
   * not answer, `CANCELLED` when the signal ended it.
   */
  ask(request: MoverFileRequest): Promise<IncomingMessage>
  /** Ends connections that wait to be used again. */
  close(): void
}

const NOT_LET_IN = 'refused a request: the API and the mover must have the same key file, and their clocks must agree'
/** A mover that was killed leaves its port to whoever takes it. */
const NOT_A_MOVER = 'does not answer; a program that does not have its key answered in its place'

interface Exchange {
  endpoint: MoverEndpoint
  options: RequestOptions
  signal: AbortSignal
}

/** `key`: of `security/signed-requests.ts`. `now`: milliseconds since 1970; the real time, since movers compare it with theirs. */
export function createMoverFiles(catalog: Catalog, key: Uint8Array, now: () => number = Date.now): MoverFiles {
  const agents = { 'http:': new HttpAgent({ keepAlive: true }), 'https:': new HttpsAgent({ keepAlive: true }) }

  return {
    async ask(request) {
      const { hostId, method, signal } = request
      const endpoint = await findMoverEndpoint(catalog, hostId)
      if (!endpoint) throw unavailable(hostId, 'serves no files just now')
      const path = targetOf(endpoint.filesUrl, request)
      const authorization = signRequest(key, { method, port: portOf(endpoint.filesUrl), target: path }, now())
      const options = { method, path, headers: { ...request.headers, authorization } }
      const answer = await exchange({ endpoint, options, signal }).catch((error: unknown) => {
        throw asFailure(error, hostId, signal)
      })
      const { statusCode = 0 } = answer
      if (!isSignedAnswer(key, authorization, headerOf(answer, ANSWER_SIGNATURE))) {
        answer.destroy()
        throw unavailable(hostId, statusCode === 401 ? NOT_LET_IN : NOT_A_MOVER)
      }
      if (statusCode < 400) return answer
      throw await moverFailure(answer, method)
    },
    close() {
      for (const agent of Object.values(agents)) agent.destroy()
    },
  }

  async function exchange(what: Exchange): Promise<IncomingMessage> {
    const sent = send(what)
    try {
      return await answerTo(sent)
    } catch (error) {
      // A kept connection that the mover closed while we wrote: nothing was answered, and asking twice changes nothing.
      if (!sent.reusedSocket || what.signal.aborted || !hasCode(error, 'ECONNRESET', 'EPIPE')) throw error
      return answerTo(send(what))
    }
  }

  function send({ endpoint, options, signal }: Exchange): ClientRequest {
    const { protocol, hostname, port } = new URL(endpoint.filesUrl)
    // Brackets belong to addresses of the Internet Protocol 6 in URLs, not to names.
    const place = { host: hostname.replace(/^\[|\]$/g, ''), port, signal, ...options }
    if (protocol !== 'https:') return httpRequest({ ...place, agent: agents['http:'] }).end()
    const ca = endpoint.certificate ?? ''
    return httpsRequest({ ...place, agent: agents['https:'], ca, checkServerIdentity: onlyThis(ca) }).end()
  }
}

function targetOf(filesUrl: string, { mountId, resource, query }: MoverFileRequest): string {
  const folder = new URL(filesUrl).pathname.replace(/\/$/, '')
  return `${folder}/mounts/${mountId}/${resource}?${new URLSearchParams(query).toString()}`
}

function portOf(filesUrl: string): number {
  const { port, protocol } = new URL(filesUrl)
  return port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port)
}

function headerOf(answer: IncomingMessage, name: string): string | undefined {
  const value = answer.headers[name]
  return typeof value === 'string' ? value : undefined
}

function answerTo(request: ClientRequest): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const giveUp = (): void => void request.destroy(new Error('it does not answer in time'))
  let timer = setTimeout(giveUp, CONNECT_MS)
  // Written: so it is connected.
  request.once('finish', () => {
    clearTimeout(timer)
    timer = setTimeout(giveUp, ANSWER_MS)
  })
  request.once('response', resolve)
  // Not once: breaking off what is already answered may say so again.
  request.on('error', reject)
  return promise.finally(() => clearTimeout(timer))
}

/** The certificate names no host that we know: it is the very one that the mover published, or none of ours. */
function onlyThis(certificate: string): (host: string, shown: { raw: Buffer }) => Error | undefined {
  const published = new X509Certificate(certificate)
  return (_host, shown) => (shown.raw.equals(published.raw) ? undefined : new Error('the certificate is another one'))
}

function asFailure(error: unknown, hostId: string, signal: AbortSignal): HoldfastError {
  if (signal.aborted) return new HoldfastError('CANCELLED', 'The client went away before the answer.', { cause: error })
  return unavailable(hostId, 'does not answer', error)
}

function unavailable(hostId: string, what: string, cause?: unknown): HoldfastError {
  const message = `The mover of host "${hostId}" ${what}. It may be starting: try again shortly.`
  return new HoldfastError('MOVER_UNAVAILABLE', message, { details: { host_id: hostId }, cause })
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code)
}
