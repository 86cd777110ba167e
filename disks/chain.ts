/**
 * Opens a chain of backups on our terms: every header must say what its manifest says, and QEMU is told every file by name.
 * A header's own names are never followed, because whoever can write into a repository could make one name any file of the host.
 */
import { join, resolve } from 'node:path'
import { HoldfastError, type JsonObject } from '../domain/errors.ts'
import type { ManifestDisk } from '../domain/manifest.ts'
import { Qcow2FormatError, readQcow2Header, type Qcow2File } from './qcow2-header.ts'

/** One backup of one disk. Chains are arrays of these, oldest (the full) first. */
export interface ChainLink {
  backupId: string
  /** Absolute path of the backup's folder. */
  folder: string
  disk: ManifestDisk
}

/** Disk sizes are exact; QCOW2 counts in sectors. */
const SECTOR_BYTES = 512
/** Metadata cache of a parent. Sequential reading needs little, and there may be thirty parents. */
const PARENT_CACHE_BYTES = 4 * 1024 * 1024

export function qcow2SizeBytes(diskSizeBytes: number): number {
  return Math.ceil(diskSizeBytes / SECTOR_BYTES) * SECTOR_BYTES
}

/** Absolute path of a link's QCOW2 file. */
export function imagePath(link: ChainLink): string {
  return join(link.folder, link.disk.file)
}

/** Absolute path of a link's blocks file. */
export function blocksPath(link: ChainLink): string {
  return join(link.folder, link.disk.blocks_file)
}

/**
 * Compares every header with its manifest and returns the explicit, read-only block graph of the newest backup.
 *
 * `CORRUPT_CHAIN` (lasting) names the backup, the file, what was found and what was expected (also in `details`).
 * `REPO_UNAVAILABLE` (retryable) when a file cannot be read at all. Nothing is opened by QEMU here.
 */
export async function checkChain(links: readonly ChainLink[]): Promise<JsonObject> {
  if (links.length === 0) throw new HoldfastError('CORRUPT_CHAIN', 'The chain is empty: there is no backup to open.')
  let graph: JsonObject | null = null
  for (const [position, link] of links.entries()) {
    const parent = position === 0 ? null : (links[position - 1] ?? null)
    checkManifests(link, parent)
    await checkHeader(link)
    graph = qcow2Node(imagePath(link), { readOnly: true, backing: graph, cacheBytes: PARENT_CACHE_BYTES })
  }
  return graph ?? {}
}

/** A QCOW2 file as a node of a block graph, with its backing node spelled out (`null`: none, whatever its header says). */
export function qcow2Node(
  path: string,
  options: { readOnly: boolean; backing: JsonObject | null; cacheBytes?: number },
): JsonObject {
  return {
    driver: 'qcow2',
    'read-only': options.readOnly,
    ...(options.cacheBytes === undefined ? {} : { 'l2-cache-size': options.cacheBytes }),
    file: { driver: 'file', filename: path, 'read-only': options.readOnly },
    backing: options.backing,
  }
}

function checkManifests(link: ChainLink, parent: ChainLink | null): void {
  const { disk } = link
  expectEqual(link, 'file name', disk.file, `disk-${disk.index}.qcow2`)
  expectEqual(link, 'blocks file name', disk.blocks_file, `disk-${disk.index}.blocks`)
  expectEqual(link, 'type', disk.backup_type, parent ? 'incremental' : 'full')
  expectEqual(
    link,
    'backing file in the manifest',
    disk.backing_file,
    parent ? `../${parent.backupId}/${parent.disk.file}` : null,
  )
  if (!parent) return
  expectEqual(link, 'parent folder', resolve(link.folder, '..', parent.backupId), resolve(parent.folder))
  if (disk.size_bytes < parent.disk.size_bytes) {
    throw corruptChain(link, 'disk size', String(disk.size_bytes), `at least the parent's ${parent.disk.size_bytes}`)
  }
}

async function checkHeader(link: ChainLink): Promise<void> {
  const { header, fileSizeBytes } = await readHeader(link)
  const { disk } = link
  expectEqual(link, 'backing file in the header', header.backingName, disk.backing_file)
  expectEqual(link, 'backing format', header.backingFormat, disk.backing_file === null ? null : 'qcow2')
  expectEqual(link, 'external data file', header.hasDataFile, false)
  expectEqual(link, 'encryption', header.encrypted, false)
  expectEqual(link, 'incompatible features', header.unexpectedFeatures.join(', '), '')
  expectEqual(link, 'virtual size', header.sizeBytes, qcow2SizeBytes(disk.size_bytes))
  expectEqual(link, 'file size', fileSizeBytes, disk.file_size_bytes)
}

async function readHeader(link: ChainLink): Promise<Qcow2File> {
  try {
    return await readQcow2Header(imagePath(link))
  } catch (error) {
    if (error instanceof Qcow2FormatError) throw corruptChain(link, 'header', error.message, 'a QCOW2 file of ours', error)
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT') throw corruptChain(link, 'file', 'nothing', 'the QCOW2 file', error)
    if (code === 'ELOOP') throw corruptChain(link, 'file', 'a symbolic link', 'the QCOW2 file', error)
    throw new HoldfastError('REPO_UNAVAILABLE', `"${imagePath(link)}" could not be read. Check the repository's storage.`, {
      details: { backupId: link.backupId, path: imagePath(link) },
      cause: error,
    })
  }
}

type Fact = string | number | boolean | null

function expectEqual(link: ChainLink, what: string, found: Fact, expected: Fact): void {
  if (found !== expected) throw corruptChain(link, what, quoted(found), quoted(expected))
}

function quoted(fact: Fact): string {
  if (fact === null || fact === '') return 'none'
  return typeof fact === 'string' ? `"${fact}"` : String(fact)
}

function corruptChain(link: ChainLink, what: string, found: string, expected: string, cause?: unknown): HoldfastError {
  const path = imagePath(link)
  return new HoldfastError(
    'CORRUPT_CHAIN',
    `Backup ${link.backupId} cannot be opened: ${what} of "${path}" is ${found}, expected ${expected}. ` +
      'The repository was changed or damaged; backups that depend on this one need a new full.',
    { details: { backupId: link.backupId, path, what, found, expected }, cause },
  )
}
