/** All files that a disk image consists of: the image, its backing files, its extents. */
import { realpath, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { readQcow2Header } from '../../disks/qcow2-header.ts'
import { imageFormats } from './config.ts'
import type { ImageFormat } from './config.ts'
import { invalidImage, onImage } from './image-errors.ts'
import { vmdkExtents } from './vmdk-descriptor.ts'

const BACKING_DEPTH_MAX = 256

/**
 * Real paths of the files, the image first. Reads headers only, and without QEMU.
 * `SOURCE_NOT_FOUND` (with the missing file), `SOURCE_INVALID` for an image that refers to something that we would have to guess or will not follow.
 */
export async function imageFiles(path: string, format: ImageFormat): Promise<string[]> {
  const files: string[] = []
  let link: { path: string; format: ImageFormat } | null = { path, format }
  while (link !== null) {
    const file = await regularFile(link.path)
    if (files.length >= BACKING_DEPTH_MAX || files.includes(file)) throw invalidImage(path, 'its backing files never end')
    files.push(file)
    if (link.format === 'vmdk') files.push(...(await extentFiles(file)))
    link = link.format === 'qcow2' ? await backingFile(file) : null
  }
  return files
}

async function regularFile(path: string): Promise<string> {
  const file = await onImage(path, () => realpath(path))
  const stats = await onImage(file, () => stat(file))
  if (!stats.isFile()) throw invalidImage(path, 'it is not a regular file; serve devices over NBD and give the URI')
  return file
}

async function extentFiles(file: string): Promise<string[]> {
  const names = await onImage(file, () => vmdkExtents(file))
  return Promise.all(names.map((name) => regularFile(join(dirname(file), name))))
}

async function backingFile(file: string): Promise<{ path: string; format: ImageFormat } | null> {
  const { header } = await onImage(file, () => readQcow2Header(file))
  if (header.encrypted) throw invalidImage(file, 'it is encrypted, and Holdfast has no key for it')
  if (header.hasDataFile) throw invalidImage(file, 'its data lies in an external data file')
  if (header.backingName === null) return null
  // "json:" and protocols ("nbd:", "https://") would make QEMU open whatever the header's author chose.
  if (/^[a-z0-9+.-]+:/i.test(header.backingName)) throw invalidImage(file, 'its backing file is not a plain file name')
  const format = imageFormats.find((known) => known === header.backingFormat)
  if (format === undefined) {
    throw invalidImage(
      file,
      `the format of its backing file is ${header.backingFormat ?? 'not given'}: state it with "qemu-img rebase -u -b … -F …"`,
    )
  }
  return { path: resolve(dirname(file), header.backingName), format }
}
