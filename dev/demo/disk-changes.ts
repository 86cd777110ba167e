/** What differs between two raw images of one size: what a guest would have to write to get from one to the other. */
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { z } from 'zod'
import { runTool } from '../../tools/run-tool.ts'

const BLOCK_BYTES = 4096
const CHUNK_BYTES = 1024 ** 2

export interface DiskChange {
  offsetBytes: number
  sizeBytes: number
  /** Whether the range reads as zeroes now: written as such, as a guest that discards or wipes would. */
  zero: boolean
}

/** The ranges where `after` differs from `before`, in order, in whole blocks of 4 KiB. Looks only where one of the two holds data. */
export async function diskChanges(before: string, after: string): Promise<DiskChange[]> {
  const chunks = new Set([...(await dataChunks(before)), ...(await dataChunks(after))])
  const files = [await open(before), await open(after)] as const
  try {
    const changes: DiskChange[] = []
    for (const chunk of [...chunks].sort((a, b) => a - b)) await compareChunk(files, chunk * CHUNK_BYTES, changes)
    return changes
  } finally {
    for (const file of files) await file.close()
  }
}

async function compareChunk(
  [before, after]: readonly [FileHandle, FileHandle],
  offset: number,
  changes: DiskChange[],
): Promise<void> {
  const [old, now] = [await readChunk(before, offset), await readChunk(after, offset)]
  for (let at = 0; at < now.length; at += BLOCK_BYTES) {
    const block = now.subarray(at, at + BLOCK_BYTES)
    if (block.equals(old.subarray(at, at + BLOCK_BYTES))) continue
    const zero = block.equals(zeroBlock)
    const last = changes.at(-1)
    if (last && last.zero === zero && last.offsetBytes + last.sizeBytes === offset + at) last.sizeBytes += BLOCK_BYTES
    else changes.push({ offsetBytes: offset + at, sizeBytes: BLOCK_BYTES, zero })
  }
}

const zeroBlock = Buffer.alloc(BLOCK_BYTES)

async function readChunk(file: FileHandle, offset: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, offset)
  return buffer.subarray(0, bytesRead)
}

const extents = z.array(z.object({ start: z.number(), length: z.number(), data: z.boolean() }))

/** Numbers of the chunks that hold data: the disks are large and mostly holes. */
async function dataChunks(raw: string): Promise<Set<number>> {
  const { stdout } = await runTool('qemu-img', ['map', '--output=json', '-f', 'raw', raw], { timeoutMs: 60_000 })
  const chunks = new Set<number>()
  for (const { start, length, data } of extents.parse(JSON.parse(stdout))) {
    if (!data) continue
    for (let chunk = Math.floor(start / CHUNK_BYTES); chunk * CHUNK_BYTES < start + length; chunk += 1) chunks.add(chunk)
  }
  return chunks
}
