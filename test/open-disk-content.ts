/** Reads a disk that a source serves, as a backup would: everything, or what changed on top of the parent. */
import { NbdConnection } from '../disks/nbd/nbd-connection.ts'
import { STATE_DIRTY } from '../disks/nbd/protocol.ts'
import type { OpenDisk } from '../sources/source.ts'

const PIECE_BYTES = 16 * 1024 * 1024

export interface ReadDisk {
  content: Buffer
  /** Bytes that were read: all of them, or those that the source says have changed. */
  readBytes: number
}

/** `parent`: content of the backup before, to which the changes are applied; what a larger disk has more of counts as changed. */
export async function readOpenDisk({ endpoint, sizeBytes, changes }: OpenDisk, parent: Buffer | null): Promise<ReadDisk> {
  const context = parent !== null && changes.type === 'dirty-bitmap' ? changes.metaContext : null
  const connection = await NbdConnection.connect(endpoint, {
    structuredReplies: true,
    metaContexts: context === null ? [] : [context],
  })
  try {
    const content = Buffer.alloc(sizeBytes)
    parent?.copy(content)
    let readBytes = 0
    for (let offset = 0; offset < sizeBytes;) {
      const length = Math.min(PIECE_BYTES, sizeBytes - offset)
      const extents =
        context === null ? [{ offset, length, flags: STATE_DIRTY }] : await connection.blockStatus(offset, length, context)
      for (const extent of extents) {
        const isNew = parent !== null && extent.offset + extent.length > parent.length
        if ((extent.flags & STATE_DIRTY) !== 0 || isNew) {
          await connection.read(extent.offset, extent.length, content.subarray(extent.offset, extent.offset + extent.length))
          readBytes += extent.length
        }
        offset = extent.offset + extent.length
      }
    }
    return { content, readBytes }
  } finally {
    await connection.close()
  }
}
