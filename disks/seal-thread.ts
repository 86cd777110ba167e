/** Entry of the worker thread that seals a finished disk: the server has gone and the image is checked, so its bytes are final. */
import { hashBlocksFile } from './block-hashes.ts'
import { sealContainer } from './container-checksums.ts'
import { serveThread } from './disk-thread.ts'
import { whileStaging } from './staging-failure.ts'

export interface SealWork {
  input: { diskIndex: number; imagePath: string; blocksPath: string; sizeBytes: number }
  result: { fileSizeBytes: number; blocksSha256: string }
  report: never
}

await serveThread<SealWork>((input, { signal }) => whileStaging(input.diskIndex, () => seal(input, signal)))

async function seal(input: SealWork['input'], signal: AbortSignal): Promise<SealWork['result']> {
  const { fileSizeBytes } = await sealContainer({ image: input.imagePath, blocks: input.blocksPath }, input.sizeBytes, signal)
  return { fileSizeBytes, blocksSha256: await hashBlocksFile(input.blocksPath, signal) }
}
