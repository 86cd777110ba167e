/** Backups of one disk in a temporary folder, made by the real transfer, for tests of what reads them. */
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Compression } from '../domain/backup.ts'
import type { ManifestDisk } from '../domain/manifest.ts'
import type { ChainLink } from '../disks/chain.ts'
import { serveImage } from '../disks/serve.ts'
import { transferDisk, type TransferRequest, type TransferResult } from '../disks/transfer.ts'

export const MIB = 1024 * 1024

export interface DiskBackupRequest {
  /** Where backups lie side by side. */
  folder: string
  backupId: string
  source: TransferRequest['source']
  /** Chain to continue, oldest first; none for a full. */
  parent?: readonly ChainLink[]
  compression?: Compression
  change?: Partial<TransferRequest>
}

/** The request that stages this backup. Makes the staging folder. */
export async function transferRequest(backup: DiskBackupRequest): Promise<TransferRequest> {
  const { folder, backupId, source, parent = [], compression = 'zstd' } = backup
  const staged = join(folder, `${backupId}.partial`)
  await mkdir(staged, { recursive: true })
  return {
    source,
    snapshotId: 'snapshot-1',
    target: {
      folder: staged,
      diskIndex: 0,
      sizeBytes: source.sizeBytes,
      compression,
      parent: parent.length === 0 ? null : { links: parent },
    },
    runFolder: join(folder, 'run'),
    rateLimitBytesPerSecond: null,
    checkpointIntervalMs: 60_000,
    checkpointIntervalBytes: 8 * MIB,
    ...backup.change,
  }
}

/** Publishes a staged backup, without its journal as repositories do: the chain up to it, and what the transfer said. */
export async function publish(backup: DiskBackupRequest, result: TransferResult): Promise<ChainLink[]> {
  const { folder, backupId, source, parent = [] } = backup
  const published = join(folder, backupId)
  await rm(join(`${published}.partial`, 'disk-0.journal'))
  await rename(`${published}.partial`, published)
  const previous = parent.at(-1)
  const disk: ManifestDisk = {
    index: 0,
    key: 'disk',
    label: 'disk',
    size_bytes: source.sizeBytes,
    backup_type: previous ? 'incremental' : 'full',
    full_reason: previous ? null : 'first_backup',
    file: 'disk-0.qcow2',
    file_size_bytes: result.fileSizeBytes,
    backing_file: previous ? `../${previous.backupId}/disk-0.qcow2` : null,
    blocks_file: 'disk-0.blocks',
    blocks_sha256: result.blocksSha256,
    change_id: null,
    written_bytes: result.writtenBytes,
  }
  return [...parent, { backupId, folder: published, disk }]
}

/** Backs up an image file and publishes it. */
export async function backUpImage(
  backup: Omit<DiskBackupRequest, 'source'> & { imagePath: string; sizeBytes: number; format?: string },
): Promise<{ links: ChainLink[]; result: TransferResult }> {
  const served = await serveImage(backup.imagePath, backup.format ?? 'raw', { runFolder: join(backup.folder, 'run') })
  try {
    const source = { endpoint: served.endpoint, sizeBytes: backup.sizeBytes, changes: { type: 'compare-hashes' as const } }
    const result = await transferDisk(await transferRequest({ ...backup, source }))
    return { links: await publish({ ...backup, source }, result), result }
  } finally {
    await served.close()
  }
}

/** Bytes that look random, do not compress and are the same for the same seed. */
export function noise(lengthBytes: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(Math.ceil(lengthBytes / 4) * 4)
  let state = (seed * 2654435761 + 1) >>> 0
  for (let at = 0; at < bytes.length; at += 4) {
    state ^= state << 13
    state ^= state >>> 17
    state = (state ^ (state << 5)) >>> 0
    bytes.writeUInt32LE(state, at)
  }
  return bytes.subarray(0, lengthBytes)
}

/** Bytes that compress well and differ from place to place. */
export function prose(lengthBytes: number, seed: number): Buffer {
  const lines: string[] = []
  for (let line = 0, length = 0; length < lengthBytes; line++) {
    const text = `${seed}: line ${line} of a file that somebody wrote ${line * seed}\n`
    lines.push(text)
    length += text.length
  }
  return Buffer.from(lines.join(''), 'latin1').subarray(0, lengthBytes)
}

/** Writes pieces into a file of `sizeBytes`; the rest stays as it was, or a hole. */
export async function writeImage(
  path: string,
  sizeBytes: number,
  pieces: readonly [offset: number, bytes: Buffer][],
): Promise<void> {
  const file = await open(path, 'a+').then(async (created) => {
    await created.close()
    return open(path, 'r+')
  })
  try {
    await file.truncate(sizeBytes)
    for (const [offset, bytes] of pieces) await file.write(bytes, 0, bytes.length, offset)
  } finally {
    await file.close()
  }
}

/** Ids of running processes whose arguments mention `text`, for example a path. */
export async function processesNaming(text: string): Promise<number[]> {
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (commandLine.includes(text)) found.push(pid)
  }
  return found
}
