/** `qemu-img`: makes, inspects and checks disk images. Names inside an image are never followed unless the caller's block graph says so. */
import { isAbsolute } from 'node:path'
import type { Compression } from '../domain/backup.ts'
import { CLUSTER_SIZE_BYTES } from '../domain/blocks.ts'
import { HoldfastError, type JsonObject } from '../domain/errors.ts'
import { runTool } from './run-tool.ts'

const SHORT_MS = 60_000
/** Checking reads all metadata: minutes for a disk of many TiB on slow storage. */
const CHECK_MS = 60 * 60_000

export interface CreateImageRequest {
  /** Absolute; must not exist. */
  path: string
  /** A multiple of 512. */
  sizeBytes: number
  compression: Compression
  /** Stored in the header as given (so it may be relative to the image); not opened. */
  backing: { name: string; format: 'qcow2' } | null
  signal?: AbortSignal | undefined
}

/** Makes an empty QCOW2 image with the options every backup has. `TOOL_FAILED` with qemu-img's words; a full disk leaves no image worth keeping. */
export async function createImage(request: CreateImageRequest): Promise<void> {
  // lazy_refcounts stays off: with it a killed writer leaves an image that needs repair.
  const options = ['compat=1.1', `cluster_size=${CLUSTER_SIZE_BYTES}`, 'lazy_refcounts=off']
  if (request.compression === 'zstd') options.push('compression_type=zstd')
  // -u: the parent is not opened; its name is right only from the published folder on.
  const backing = request.backing === null ? [] : ['-u', '-b', request.backing.name, '-F', request.backing.format]
  const args = [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    options.join(','),
    ...backing,
    absolute(request.path),
    String(request.sizeBytes),
  ]
  await runTool('qemu-img', args, { timeoutMs: SHORT_MS, signal: request.signal })
}

export interface ImageInfo {
  format: string
  /** What a guest sees. */
  virtualSizeBytes: number
  /** Space the file takes on its file system. */
  actualSizeBytes: number
  /** Name of the backing file in the header, `null` without one. */
  backingName: string | null
}

/**
 * What `qemu-img info` says of an image of this format; the format is never guessed, because a guest can write any header into a raw disk.
 * `SOURCE_BUSY` when a writer has locked it; `TOOL_FAILED` when it is not such an image.
 */
export async function imageInfo(
  path: string,
  format: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<ImageInfo> {
  const args = ['info', '--output=json', '-f', format, absolute(path)]
  const { stdout } = await asBusy(path, runTool('qemu-img', args, { timeoutMs: SHORT_MS, signal: options.signal }))
  const info = parse(stdout)
  return {
    format: text(info, 'format'),
    virtualSizeBytes: amount(info, 'virtual-size'),
    actualSizeBytes: amount(info, 'actual-size'),
    backingName: typeof info['backing-filename'] === 'string' ? info['backing-filename'] : null,
  }
}

/**
 * Bytes that the image's data needs, from its allocation map: holes and zero clusters do not count, metadata does. An upper bound of the data.
 * Errors as {@link imageInfo}; `TOOL_TIMEOUT` when mapping takes longer than `timeoutMs`.
 */
export async function measureData(
  path: string,
  format: string,
  options: { timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<number> {
  const args = ['measure', '--output=json', '-O', 'qcow2', '-f', format, absolute(path)]
  const { stdout } = await asBusy(path, runTool('qemu-img', args, options))
  return amount(parse(stdout), 'required')
}

export interface ImageCheck {
  /** Broken references: data is lost or wrong. */
  corruptions: number
  /** Space that nothing refers to: harmless. */
  leaks: number
}

/** Exit codes of `qemu-img check`: 2 corruptions, 3 leaks only. Others mean that the check itself failed. */
const checkAnswers = [2, 3]

/**
 * Checks the metadata of one QCOW2 file by itself; its backing file is not opened. It does not see damaged data: that is what block hashes are for.
 * `repairLeaks` gives leaked space back. `SOURCE_BUSY` when a writer has the image open; `TOOL_FAILED` when it is no QCOW2 image.
 */
export async function checkImage(
  path: string,
  options: { repairLeaks?: boolean; signal?: AbortSignal | undefined } = {},
): Promise<ImageCheck> {
  const repair = options.repairLeaks ? ['-r', 'leaks'] : []
  const args = ['check', '--output=json', ...repair, aloneName(path)]
  const running = runTool('qemu-img', args, { timeoutMs: CHECK_MS, signal: options.signal, allowExitCodes: checkAnswers })
  const report = parse((await asBusy(path, running)).stdout)
  return { corruptions: optionalAmount(report, 'corruptions'), leaks: optionalAmount(report, 'leaks') }
}

/** Cuts the end off an image, which nothing has open. Repeating it changes nothing. */
export async function shrinkImage(
  path: string,
  sizeBytes: number,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<void> {
  await runTool('qemu-img', ['resize', '-q', '--shrink', aloneName(path), String(sizeBytes)], {
    timeoutMs: SHORT_MS,
    signal: options.signal,
  })
}

/** An image for {@link compareImages}: a file of a format, or an explicit block graph. */
export type ComparedImage = { path: string; format: string } | JsonObject

/** Whether two images show a guest the same bytes, as `qemu-img compare` judges. For tests and the demo. */
export async function compareImages(
  left: ComparedImage,
  right: ComparedImage,
  options: { signal?: AbortSignal | undefined; timeoutMs?: number } = {},
): Promise<boolean> {
  const { exitCode } = await runTool('qemu-img', ['compare', '-q', graphName(left), graphName(right)], {
    timeoutMs: options.timeoutMs ?? CHECK_MS,
    signal: options.signal,
    allowExitCodes: [1],
  })
  return exitCode === 0
}

/** The version as QEMU writes it, for example `7.2.22`. */
export async function qemuVersion(): Promise<string> {
  const { stdout } = await runTool('qemu-img', ['--version'], { timeoutMs: SHORT_MS })
  const version = /version (\S+)/.exec(stdout)?.[1]
  if (version === undefined) throw unreadable('--version')
  return version
}

function graphName(image: ComparedImage): string {
  const { path, format } = image
  const isFile = typeof path === 'string' && typeof format === 'string'
  return `json:${JSON.stringify(isFile ? { driver: format, file: { driver: 'file', filename: absolute(path) } } : image)}`
}

/** A QCOW2 file without its backing chain. */
function aloneName(path: string): string {
  return graphName({ driver: 'qcow2', backing: null, file: { driver: 'file', filename: absolute(path) } })
}

/** Relative names could begin with `-` or look like a protocol; absolute ones cannot. */
function absolute(path: string): string {
  if (!isAbsolute(path)) throw new HoldfastError('INTERNAL', `qemu-img was given the relative path "${path}".`)
  return path
}

/** Whether an error is QEMU's answer that another process has the image open in a way that excludes ours. */
export function isLockedError(error: unknown): boolean {
  return error instanceof HoldfastError && error.code === 'TOOL_FAILED' && /Failed to get .* lock/.test(error.message)
}

/**
 * Whether an error is QEMU's verdict on the image itself. Everything else it says (input/output error, no memory, permission denied …) is
 * about the storage or the machine, and may pass.
 */
export function isFormatError(error: unknown): boolean {
  if (!(error instanceof HoldfastError) || error.code !== 'TOOL_FAILED' || error.details['exitCode'] !== 1) return false
  // What comes after the name that we gave, which may hold any word.
  const verdict = /^.* Could not open 'json:.*\}': (.*)$/s.exec(error.message)?.[1] ?? ''
  return /not in qcow2 format|[Uu]nsupported|[Ii]nvalid|too (?:large|small|big|short)|must (?:not )?be|exceed|corrupt/.test(
    verdict,
  )
}

async function asBusy<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!isLockedError(error)) throw error
    throw new HoldfastError('SOURCE_BUSY', `Another process has "${path}" open for writing. Stop it or wait until it is done.`, {
      details: { path },
      cause: error,
    })
  }
}

function parse(stdout: string): Record<string, unknown> {
  const value: unknown = JSON.parse(stdout)
  if (typeof value !== 'object' || value === null) throw unreadable('JSON')
  return { ...value }
}

function amount(report: Record<string, unknown>, key: string): number {
  const value = report[key]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw unreadable(key)
  return value
}

/** `qemu-img check` leaves out what is zero. */
function optionalAmount(report: Record<string, unknown>, key: string): number {
  return report[key] === undefined ? 0 : amount(report, key)
}

function text(report: Record<string, unknown>, key: string): string {
  const value = report[key]
  if (typeof value !== 'string') throw unreadable(key)
  return value
}

function unreadable(what: string): HoldfastError {
  return new HoldfastError('TOOL_FAILED', `qemu-img answered in a form that we cannot read (${what}). Is it QEMU 5.1 or newer?`, {
    details: { program: 'qemu-img' },
    retryable: false,
  })
}
