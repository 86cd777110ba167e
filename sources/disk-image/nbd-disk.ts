/** A disk that somebody else serves over NBD. What it holds may change at any time: only its size can be watched. */
import { NbdPool } from '../../disks/nbd/nbd-pool.ts'
import { BASE_ALLOCATION, STATE_ZERO } from '../../disks/nbd/protocol.ts'
import { NbdConnection } from '../../disks/nbd/nbd-connection.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { NbdDisk } from './config.ts'

interface NbdDiskOptions {
  signal?: AbortSignal | undefined
}

/** The export's size. `SOURCE_UNAVAILABLE` when the server does not answer as an NBD server does. */
export async function nbdSizeBytes(disk: NbdDisk, options: NbdDiskOptions): Promise<number> {
  try {
    const connection = await NbdConnection.connect(disk.endpoint, { signal: options.signal })
    const { sizeBytes } = connection.export
    await connection.close()
    return sizeBytes
  } catch (error) {
    throw unavailable(disk, error)
  }
}

/** Size, and the bytes that the server does not report as zero: all of them where it cannot tell. Errors as {@link nbdSizeBytes}. */
export async function describeNbdDisk(disk: NbdDisk, options: NbdDiskOptions): Promise<{ sizeBytes: number; dataBytes: number }> {
  try {
    const pool = await NbdPool.open(disk.endpoint, { connections: 1, metaContexts: [BASE_ALLOCATION], signal: options.signal })
    try {
      return { sizeBytes: pool.export.sizeBytes, dataBytes: await dataBytesOf(pool) }
    } finally {
      await pool.close()
    }
  } catch (error) {
    throw unavailable(disk, error)
  }
}

async function dataBytesOf(pool: NbdPool): Promise<number> {
  const { sizeBytes, metaContexts } = pool.export
  if (!metaContexts.includes(BASE_ALLOCATION)) return sizeBytes
  let dataBytes = 0
  for await (const extent of pool.extents(BASE_ALLOCATION, 0, sizeBytes)) {
    if ((extent.flags & STATE_ZERO) === 0) dataBytes += extent.length
  }
  return dataBytes
}

function unavailable(disk: NbdDisk, cause: unknown): unknown {
  if (!(cause instanceof HoldfastError) || !cause.code.startsWith('NBD_')) return cause
  return new HoldfastError('SOURCE_UNAVAILABLE', `The NBD disk ${disk.uri} could not be opened: ${cause.message}`, {
    cause,
    details: { uri: disk.uri },
  })
}
