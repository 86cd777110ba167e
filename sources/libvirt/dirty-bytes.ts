/** How much a bitmap of an image says has changed. */
import { NbdConnection } from '../../disks/nbd/nbd-connection.ts'
import { STATE_DIRTY } from '../../disks/nbd/protocol.ts'
import type { HypervisorHost, ServedImage } from './host.ts'

/** Bytes asked about at a time: below the 4 GiB that one request can describe. */
const ASKED_BYTES = 1024 ** 3

/** Serves the image for a moment. Errors of the host and of NBD. */
export async function dirtyBytes(
  host: HypervisorHost,
  image: ServedImage & { bitmap: string },
  options: { runFolder: string; signal?: AbortSignal | undefined },
): Promise<number> {
  const served = await host.serveImage(image, options)
  try {
    const context = dirtyContext(image.bitmap)
    const endpoint = { type: 'unix' as const, path: served.path, exportName: served.exportName }
    const connection = await NbdConnection.connect(endpoint, {
      metaContexts: [context],
      signal: options.signal,
      structuredReplies: true,
    })
    try {
      return await countDirty(connection, context)
    } finally {
      await connection.close()
    }
  } finally {
    await served.close()
  }
}

/** The metadata context that a server offers for a bitmap. */
export function dirtyContext(bitmap: string): string {
  return `qemu:dirty-bitmap:${bitmap}`
}

async function countDirty(connection: NbdConnection, context: string): Promise<number> {
  const { sizeBytes } = connection.export
  let dirty = 0
  for (let offset = 0; offset < sizeBytes;) {
    for (const extent of await connection.blockStatus(offset, Math.min(ASKED_BYTES, sizeBytes - offset), context)) {
      if ((extent.flags & STATE_DIRTY) !== 0) dirty += extent.length
      offset = extent.offset + extent.length
    }
  }
  return dirty
}
