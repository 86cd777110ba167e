/** Images of a domain that is shut off: what they are, and the bitmaps in them. */
import { z } from 'zod'
import { HoldfastError, type JsonObject } from '../../domain/errors.ts'
import { isLockedError } from '../../tools/qemu-img.ts'
import type { HypervisorHost } from './host.ts'
import type { IncludedDisk } from './included-disks.ts'
import { imageFile } from './shared-image.ts'

const SHORT_MS = 60_000

interface Options {
  signal?: AbortSignal | undefined
}

export interface OfflineImage {
  /** The image, then what it is based on. */
  files: string[]
  /** Whether persistent bitmaps can be put into it: QCOW2 of version 3. */
  keepsBitmaps: boolean
  bitmaps: ImageBitmap[]
  /** Names of those in what it is based on: when an external snapshot is taken, the older part of each record stays there. */
  bitmapsBelow: string[]
}

export interface ImageBitmap {
  name: string
  /** Records changes whenever the domain runs. */
  enabled: boolean
  /** It was open when QEMU died: what it holds is not all that changed. */
  inconsistent: boolean
}

const bitmapInfo = z.object({ name: z.string(), flags: z.array(z.string()) })
const linkInfo = z.object({
  filename: z.string(),
  'backing-filename': z.string().optional(),
  'backing-filename-format': z.string().optional(),
  'format-specific': z
    .object({
      data: z.object({ compat: z.string().optional(), bitmaps: z.array(bitmapInfo).default([]) }).default({ bitmaps: [] }),
    })
    .optional(),
})

/** Looks without taking a lock. `SOURCE_NOT_FOUND`, `SOURCE_INVALID` (no such image; a base of an untold format), and the errors of the host. */
export async function lookAtImage(host: HypervisorHost, disk: IncludedDisk, options: Options): Promise<OfflineImage> {
  const name = `json:${JSON.stringify({ driver: disk.format, file: imageFile(disk) })}`
  const links = z
    .array(linkInfo)
    .min(1)
    .parse(await chainInfo(host, disk, name, options))
  const [top] = links
  if (!top) throw new HoldfastError('INTERNAL', 'qemu-img described no image.')
  const untold = links.find((link) => link['backing-filename'] !== undefined && link['backing-filename-format'] === undefined)
  if (untold) throw untoldFormat(disk, untold['backing-filename'] ?? '')
  const data = top['format-specific']?.data
  return {
    files: [disk.path, ...links.slice(1).map((link) => link.filename)],
    keepsBitmaps: disk.format === 'qcow2' && data?.compat !== undefined && data.compat !== '0.10',
    bitmaps: (data?.bitmaps ?? []).map(({ name: bitmap, flags }) => ({
      name: bitmap,
      enabled: flags.includes('auto'),
      inconsistent: flags.includes('in-use'),
    })),
    bitmapsBelow: links.slice(1).flatMap((link) => (link['format-specific']?.data.bitmaps ?? []).map((below) => below.name)),
  }
}

/** For `catch`, where an image that is gone has taken its bitmaps along. */
export function absent(error: unknown): null {
  if (error instanceof HoldfastError && error.code === 'SOURCE_NOT_FOUND') return null
  throw error
}

async function chainInfo(host: HypervisorHost, disk: IncludedDisk, name: string, options: Options): Promise<unknown> {
  try {
    const args = ['info', '--output=json', '--force-share', '--backing-chain', name]
    return JSON.parse(await host.qemuImg(args, { timeoutMs: SHORT_MS, signal: options.signal }))
  } catch (error) {
    if ((await host.fingerprint(disk.path)) !== null) throw error
    throw new HoldfastError('SOURCE_NOT_FOUND', `The image "${disk.path}" of disk ${disk.target} is not there.`, {
      details: { disk: disk.target, path: disk.path },
      cause: error,
    })
  }
}

/** An empty bitmap that records from the domain's next start on. `SOURCE_BUSY` when the image is in use: the domain has been started. */
export async function addBitmap(host: HypervisorHost, disk: IncludedDisk, name: string, options: Options): Promise<void> {
  await changeBitmap(host, disk, ['--add', '--enable'], name, options)
}

/** Errors as {@link addBitmap}. */
export async function removeBitmap(host: HypervisorHost, disk: IncludedDisk, name: string, options: Options): Promise<void> {
  await changeBitmap(host, disk, ['--remove'], name, options)
}

async function changeBitmap(
  host: HypervisorHost,
  disk: IncludedDisk,
  change: readonly string[],
  name: string,
  options: Options,
): Promise<void> {
  // Without what it is based on: bitmaps are the image's own, and a base may be open elsewhere.
  const image: JsonObject = { driver: disk.format, backing: null, file: imageFile(disk) }
  try {
    await host.qemuImg(['bitmap', ...change, `json:${JSON.stringify(image)}`, name], {
      timeoutMs: SHORT_MS,
      signal: options.signal,
    })
  } catch (error) {
    if (!isLockedError(error)) throw error
    throw new HoldfastError(
      'SOURCE_BUSY',
      `The image "${disk.path}" of disk ${disk.target} is in use: the VM has been started.`,
      {
        details: { disk: disk.target, path: disk.path },
        cause: error,
      },
    )
  }
}

/** What a base is, is never guessed: a guest can write any header into a raw disk. libvirt would not start the domain either. */
function untoldFormat(disk: IncludedDisk, base: string): HoldfastError {
  return new HoldfastError(
    'SOURCE_INVALID',
    `The image of disk ${disk.target} is based on "${base}" and does not say of which format that is. Tell it with "qemu-img rebase -u -F".`,
    { details: { disk: disk.target, path: disk.path } },
  )
}
