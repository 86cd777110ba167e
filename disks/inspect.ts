/** What an image file of a known format holds, without serving it. */
import { HoldfastError } from '../domain/errors.ts'
import { imageInfo, measureData } from '../tools/qemu-img.ts'

const MEASURE_MS = 60_000

export interface ImageInspection {
  /** What a guest sees. */
  sizeBytes: number
  /** Bytes that hold data: an upper bound, at most `sizeBytes`; equal to it when the map cannot be read in a minute. */
  dataBytes: number
  format: string
}

/** `SOURCE_BUSY` when a writer has the image locked; `TOOL_FAILED` when it is no image of this format; changes nothing. */
export async function inspectImage(
  path: string,
  format: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<ImageInspection> {
  const info = await imageInfo(path, format, options)
  const sizeBytes = info.virtualSizeBytes
  const neededBytes = await measureData(path, format, { ...options, timeoutMs: MEASURE_MS }).catch((error: unknown) => {
    // Some formats cannot be measured, and some maps take long: then all of it may be data.
    if (error instanceof HoldfastError && (error.code === 'TOOL_FAILED' || error.code === 'TOOL_TIMEOUT')) return sizeBytes
    throw error
  })
  return { sizeBytes, dataBytes: Math.min(sizeBytes, neededBytes), format: info.format }
}
