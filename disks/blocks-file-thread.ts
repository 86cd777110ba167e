/** Entry of a worker thread that hashes a blocks file: two gigabytes for a disk of 16 TiB. */
import { HoldfastError } from '../domain/errors.ts'
import { BlockHashes, hashBlocksFile, REGION_SIZE_BYTES } from './block-hashes.ts'
import { serveThread } from './disk-thread.ts'

export interface BlocksFileWork {
  input: { path: string; diskSizeBytes: number; imageSizeBytes: number }
  /** SHA-256 (hex) of the whole file. */
  result: string
  report: never
}

await serveThread<BlocksFileWork>(async ({ path, diskSizeBytes, imageSizeBytes }, { signal }) => {
  const hashes = await BlockHashes.open(path)
  await hashes.close()
  // Before the file is read: what it holds says how long it is, and a wrong one could be of any length.
  if (hashes.diskSizeBytes !== diskSizeBytes) throw ofAnother(path, 'disk', hashes.diskSizeBytes)
  if (hashes.regionCount !== Math.ceil(imageSizeBytes / REGION_SIZE_BYTES)) {
    throw ofAnother(path, 'image', hashes.regionCount * REGION_SIZE_BYTES)
  }
  return hashBlocksFile(path, signal)
})

function ofAnother(path: string, what: string, sizeBytes: number): HoldfastError {
  return new HoldfastError('BACKUP_CORRUPT', `The blocks file "${path}" belongs to another ${what}, of ${sizeBytes} bytes.`, {
    details: { path },
  })
}
