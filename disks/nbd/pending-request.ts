import { HoldfastError } from '../../domain/errors.ts'
import type { Extent } from './block-status.ts'
import { commands, errnoName, type Command } from './protocol.ts'
import { ReadCoverage } from './read-coverage.ts'

export interface RequestTerms {
  command: Command
  offset: number
  length: number
  /** Where a READ puts its data: exactly `length` bytes. */
  into?: Buffer
}

const commandNames = new Map<number, string>(Object.entries(commands).map(([name, value]) => [value, name]))

/** Asking again cannot change these answers. */
const lastingErrnos = new Set(['EPERM', 'EINVAL', 'EOVERFLOW', 'ENOTSUP'])

/** The error of one request that the server answered, or that we refused to send. The connection stays usable. */
export function requestFailed(endpoint: string, terms: RequestTerms, errno: string, why: string): HoldfastError {
  const { command, offset, length } = terms
  return new HoldfastError(
    'NBD_REQUEST_FAILED',
    `NBD ${commandNames.get(command) ?? command} of ${length} bytes at offset ${offset} failed at ${endpoint}: ${errno}${why ? `, ${why}` : ''}.`,
    { details: { offset, length, errno, endpoint }, retryable: !lastingErrnos.has(errno) },
  )
}

/** A request on the wire and what has been answered so far. */
export class PendingRequest {
  readonly terms: RequestTerms
  readonly startedAtMs: number
  readonly coverage: ReadCoverage
  /** Extents by metadata context. */
  readonly extents = new Map<string, Extent[]>()
  /** The first error the server reported in a structured reply; later chunks may still follow it. */
  failure: HoldfastError | null = null
  /** Chunks that carried no progress; bounded by the parser. */
  idleChunks = 0
  readonly promise: Promise<Map<string, Extent[]>>
  readonly resolve: (extents: Map<string, Extent[]>) => void
  readonly reject: (reason: unknown) => void

  constructor(terms: RequestTerms, startedAtMs: number) {
    this.terms = terms
    this.startedAtMs = startedAtMs
    this.coverage = new ReadCoverage(terms.length)
    const { promise, resolve, reject } = Promise.withResolvers<Map<string, Extent[]>>()
    this.promise = promise
    this.resolve = resolve
    this.reject = reject
  }

  fail(endpoint: string, errno: number, why: string): void {
    this.failure ??= requestFailed(endpoint, this.terms, errnoName(errno), why)
  }

  settle(): void {
    if (this.failure) this.reject(this.failure)
    else this.resolve(this.extents)
  }
}
