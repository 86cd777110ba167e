/**
 * Proves that a disk of a backup is what was first read: the blocks file against the manifest, the QCOW2 file against its checksums,
 * the chain's headers against their manifests, and every block, read through the chain as a restore would, against its birth hash.
 */
import { HoldfastError } from '../domain/errors.ts'
import type { Progress } from '../domain/progress.ts'
import { blocksPath, imagePath, type ChainLink } from './chain.ts'
import { blockDamage, blocksFileDamage, chainDamage, digestDamage, fileDamage, type DiskDamage } from './disk-damage.ts'
import { runInThread } from './disk-thread.ts'
import type { Finding } from './findings.ts'
import { findBlocksFileFault, openedChain } from './verify-preparation.ts'
import { RangeClaims } from './range-claims.ts'
import type { ServedDisk } from './serve.ts'
import type { VerifyWork } from './verify-thread.ts'

export type { DiskDamage } from './disk-damage.ts'

export interface VerifyRequest {
  /** Oldest first; the last one is verified. */
  links: readonly ChainLink[]
  /** For sockets; short. */
  runFolder: string
}

export interface VerifyOptions {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: Progress) => void) | undefined
}

export interface VerifyResult {
  /** Bytes of the disk that were compared with their hashes: all of them, or 0 when the chain or the hashes could not be opened. */
  verifiedBytes: number
  /** At most 100 places, the gravest kind first. Empty: the disk is what was first read. */
  damage: DiskDamage[]
}

const DAMAGE_MAX = 100
const threadScript = new URL('./verify-thread.ts', import.meta.url)
/** Hashing is the work: two threads keep two cores busy, and more would starve the server that decompresses for them. */
const THREADS = 2
/** Ranges per thread at a time: while one waits for its first answers, the other hashes. */
const RANGES_PER_THREAD = 2

/**
 * Reads everything and goes on after damage. Writes nothing; safe to repeat.
 *
 * Damage is a result. What may pass is thrown, because it says nothing about the backup: `REPO_UNAVAILABLE` (a file cannot be read),
 * `DISK_READ_FAILED` (blocks cannot be read although every file of the chain is sound), `NBD_*` and `TOOL_FAILED` (the server was
 * lost or did not start, likewise), `SOURCE_BUSY`. On abort it stops its server and rejects with `signal.reason`.
 */
export async function verifyDisk(request: VerifyRequest, options: VerifyOptions = {}): Promise<VerifyResult> {
  options.signal?.throwIfAborted()
  const newest = request.links.at(-1)
  if (!newest) throw new HoldfastError('CORRUPT_CHAIN', 'The chain is empty: there is nothing to verify.')
  const blocksFile = await findBlocksFileFault(newest, newest, options.signal)
  if (blocksFile?.isUseless) {
    const chain = await openedChain(request, options.signal, () => Promise.resolve(null))
    const damage = chain instanceof HoldfastError ? [chainDamage(newest, chain)] : []
    return { verifiedBytes: 0, damage: [...damage, blocksFileDamage(newest, blocksFile.message)] }
  }
  const seen = await lookAtEverything(request, newest, options)
  const parents = await explain(seen, request.links, options.signal)
  const own = fileDamage(newest, seen.container)
  // The image is untouched and the hashes are not: then the hashes are wrong, not the data.
  const hashesAreWrong = blocksFile !== null && own.length === 0 && parents.length === 0
  const damage = [
    ...(seen.failure === null ? [] : [chainDamage(newest, seen.failure)]),
    ...(blocksFile === null ? [] : [blocksFileDamage(newest, blocksFile.message)]),
    ...(hashesAreWrong ? digestDamage : blockDamage)(newest, seen.blocks),
    ...own,
    ...parents,
  ]
  return { verifiedBytes: seen.failure === null ? newest.disk.size_bytes : 0, damage: damage.slice(0, DAMAGE_MAX) }
}

/** What reading brought to light, before it is judged. */
interface Seen {
  /** Damaged regions of the newest QCOW2 file. */
  container: Finding[]
  blocks: Finding[]
  /** Why the blocks could not be read, all or some. */
  failure: HoldfastError | null
}

async function lookAtEverything(request: VerifyRequest, newest: ChainLink, options: VerifyOptions): Promise<Seen> {
  const stop = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal
  const container = containerFindings(newest, signal)
  // The file that cannot be read is the answer; there is no use in reading on through it.
  container.catch((error: unknown) => stop.abort(error))
  const blocks = openedChain(request, signal, (served) => blockFindings(served, newest, container, { ...options, signal }))
  const [containerOutcome, blocksOutcome] = await Promise.allSettled([container, blocks])
  if (containerOutcome.status === 'rejected') throw containerOutcome.reason
  if (blocksOutcome.status === 'rejected') throw blocksOutcome.reason
  const found = blocksOutcome.value
  const isFailure = found instanceof HoldfastError
  return { container: containerOutcome.value, blocks: isFailure ? [] : found, failure: isFailure ? found : null }
}

/**
 * A block that cannot be read, or a server that does not start or dies, is damage only if a file of the chain is seen to be damaged;
 * else the storage or the machine failed, and that is thrown. Returns the damage of the parents' files, as far as it was looked for.
 */
async function explain(seen: Seen, links: readonly ChainLink[], signal: AbortSignal | undefined): Promise<DiskDamage[]> {
  const unreadable = seen.blocks.find((finding) => finding.reason === 'unreadable')
  const failure = seen.failure ?? (unreadable ? cannotBeRead(unreadable) : null)
  if (failure === null || failure.code === 'CORRUPT_CHAIN' || seen.container.length > 0) return []
  const newest = links.at(-1)
  const damage: DiskDamage[] = []
  for (const parent of links.slice(0, -1)) {
    const fault = await findBlocksFileFault(parent, newest ?? parent, signal)
    if (fault) damage.push(blocksFileDamage(parent, fault.message))
    if (!fault?.isUseless) damage.push(...fileDamage(parent, await containerFindings(parent, signal)))
  }
  if (damage.length === 0) throw failure
  return damage
}

function cannotBeRead({ offsetBytes, lengthBytes }: Finding): HoldfastError {
  return new HoldfastError(
    'DISK_READ_FAILED',
    `The ${lengthBytes} bytes at offset ${offsetBytes} of the disk could not be read although no file of its chain is damaged. Check the repository's storage.`,
    { details: { offset: offsetBytes, length: lengthBytes } },
  )
}

function containerFindings(link: ChainLink, signal: AbortSignal | undefined): Promise<Finding[]> {
  const container = { imagePath: imagePath(link), blocksPath: blocksPath(link) }
  return runInThread<VerifyWork>(threadScript, { container }, { signal })
}

/** One thread begins at once, the other when the one that reads the file itself has ended: never more than two isolates in memory. */
async function blockFindings(
  served: ServedDisk,
  newest: ChainLink,
  container: Promise<unknown>,
  options: VerifyOptions,
): Promise<Finding[]> {
  const totalBytes = newest.disk.size_bytes
  const { shared } = RangeClaims.create(totalBytes, 0, THREADS * RANGES_PER_THREAD)
  const passed = Array.from({ length: THREADS }, () => 0)
  const stop = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal
  const threads = passed.map(async (_, thread) => {
    if (thread > 0) await container
    const slots = Array.from({ length: RANGES_PER_THREAD }, (_, slot) => thread * RANGES_PER_THREAD + slot)
    const blocks = { endpoint: served.endpoint, blocksPath: blocksPath(newest), claims: shared, slots }
    const onReport = (bytes: number): void => {
      passed[thread] = bytes
      const processedBytes = passed.reduce((sum, part) => sum + part, 0)
      options.onProgress?.({ processedBytes, totalBytes, writtenBytes: 0 })
    }
    return runInThread<VerifyWork>(threadScript, { blocks }, { signal, onReport })
  })
  for (const thread of threads) thread.catch((error: unknown) => stop.abort(error))
  await Promise.allSettled(threads)
  signal.throwIfAborted()
  const found = (await Promise.all(threads)).flat()
  requireWhole(passed, totalBytes)
  return found
}

/** A disk is never called verified for less than every byte of it. */
export function requireWhole(passed: readonly number[], totalBytes: number): void {
  const passedBytes = passed.reduce((sum, part) => sum + part, 0)
  if (passedBytes === totalBytes) return
  throw new HoldfastError(
    'INTERNAL',
    `${passedBytes} of the disk's ${totalBytes} bytes were looked at although no thread failed.`,
  )
}
