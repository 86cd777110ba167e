/**
 * Which other files a VMDK consists of, read without QEMU: "Virtual Disk Format 5.0", VMware.
 *
 * A descriptor is text that somebody else may have written, and QEMU opens every file that it names. QEMU reads it with `sscanf` and
 * `strstr`: blanks and line ends go anywhere, and a parent's name counts wherever it stands. What is refused here is therefore looked
 * for in any place and any spelling, rather than where the specification puts it.
 */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { readFully } from '../../disks/positional-io.ts'
import { invalidImage, onImage } from './image-errors.ts'

const SPARSE_MAGIC = 'KDMV'
const COW_MAGIC = 'COWD'
const TEXT_START = '# Disk DescriptorFile'
const SECTOR_BYTES = 512
const CAPACITY_AT = 12
const DESCRIPTOR_OFFSET_AT = 28
const DESCRIPTOR_LENGTH_AT = 36
const DESCRIPTOR_MAX_BYTES = 1024 * 1024
/** Where QEMU looks for the parent of a sparse VMDK, whatever its header says. */
const PARENT_AT = SECTOR_BYTES
const PARENT_BYTES = 20 * SECTOR_BYTES

/** An extent as `sscanf` sees it: the kind may follow the size at once, and the name ends with the line when its quote is missing. */
const EXTENT = /\b(?:RW|RDONLY|NOACCESS)\s*[+-]?\d+\s*([^\s"]+)\s*"([^"\r\n]*)/gi
/** Anything between a quote and the next one, or the end of the line: whatever a name can be read from. */
const QUOTED = /"([^"\r\n]*)/g
/** Extents without a header of their own. */
const plainKinds = new Set(['FLAT', 'VMFS'])

/**
 * Names of the extent files beside the VMDK at `path`; empty for one that holds all in itself.
 * `SOURCE_INVALID` when it depends on a parent, names anything but files beside itself, or is of a kind whose references cannot be told.
 */
export async function vmdkExtents(path: string): Promise<string[]> {
  return onFile(path, async (file) => {
    const start = await readAt(file, 0, SECTOR_BYTES)
    if (isSparse(path, start)) {
      await checkSparse(path, file, start)
      return []
    }
    if (!start.toString('latin1').trimStart().startsWith(TEXT_START)) throw invalidImage(path, 'it is not a VMDK')
    const descriptor = await readAt(file, 0, DESCRIPTOR_MAX_BYTES)
    refuseParent(path, descriptor)
    return extentsOf(path, descriptor.toString('utf8'))
  })
}

async function extentsOf(path: string, descriptor: string): Promise<string[]> {
  for (const [, name] of descriptor.matchAll(QUOTED)) requirePlainName(path, name ?? '')
  const names: string[] = []
  for (const [, kind, name] of descriptor.matchAll(EXTENT)) {
    if (name === undefined || name === '') throw invalidImage(path, 'one of its extents has no name')
    requireNeighbour(path, name)
    // What a guest writes into a plain extent is nobody's header.
    if (!plainKinds.has(kind ?? '')) await checkExtent(path, name)
    names.push(name)
  }
  return names
}

/** A sparse extent has a header like that of a whole VMDK, and could lead further. */
async function checkExtent(path: string, name: string): Promise<void> {
  const extent = join(dirname(path), name)
  await onImage(extent, () =>
    onFile(extent, async (file) => {
      const start = await readAt(file, 0, SECTOR_BYTES)
      if (isSparse(extent, start)) await checkSparse(extent, file, start)
    }),
  )
}

/** Whether the file begins with a sparse header. `SOURCE_INVALID` for the older kind, whose parent is named in its header. */
function isSparse(path: string, start: Buffer): boolean {
  const magic = start.toString('latin1', 0, 4)
  if (magic === COW_MAGIC) throw invalidImage(path, `it is a VMDK of the old kind "COWD"; ${advice}`)
  return magic === SPARSE_MAGIC
}

/** The descriptor in a sparse VMDK only describes the file it stands in; QEMU takes nothing but a parent from it. */
async function checkSparse(path: string, file: FileHandle, start: Buffer): Promise<void> {
  if (start.length < SECTOR_BYTES) throw invalidImage(path, 'it is not a VMDK')
  if (start.readBigUInt64LE(CAPACITY_AT) === 0n) {
    // Then QEMU follows the extents of the embedded descriptor.
    throw invalidImage(path, `its header gives no size, so that its descriptor could name any file; ${advice}`)
  }
  const offset = Number(start.readBigUInt64LE(DESCRIPTOR_OFFSET_AT)) * SECTOR_BYTES
  const length = Number(start.readBigUInt64LE(DESCRIPTOR_LENGTH_AT)) * SECTOR_BYTES
  if (!Number.isSafeInteger(offset + length)) throw invalidImage(path, 'its descriptor lies beyond any file')
  refuseParent(path, await readAt(file, PARENT_AT, PARENT_BYTES))
  if (offset > 0) refuseParent(path, await readAt(file, offset, Math.min(length, DESCRIPTOR_MAX_BYTES)))
}

function refuseParent(path: string, descriptor: Buffer): void {
  const text = descriptor.toString('latin1')
  const parents = [...text.matchAll(/parentCID\s*=\s*(\w+)/gi)].map(([, id]) => id ?? '')
  if (/parentFileNameHint/i.test(text) || parents.some((id) => !/^f{8}$/i.test(id))) {
    throw invalidImage(path, `it is a VMDK snapshot that needs its parent: give a disk without one, or ${advice}`)
  }
}

const advice = 'convert it with "qemu-img convert -O qcow2 …" and give the result'

function requirePlainName(path: string, name: string): void {
  if (/[/\0]/.test(name)) throw invalidImage(path, `it names "${name}", which does not lie beside it; ${advice}`)
}

/** A file of the same folder, and none of QEMU's protocols ("json:", "nbd:"). */
function requireNeighbour(path: string, name: string): void {
  requirePlainName(path, name)
  if (/^\.\.|^\.$|:/.test(name)) throw invalidImage(path, `its extent "${name}" is not a plain file name; ${advice}`)
}

async function onFile<T>(path: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
  // A named pipe in place of an extent would block for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    return await work(file)
  } finally {
    await file.close()
  }
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  return buffer.subarray(0, await readFully(file, buffer, position))
}
