/** The files of the demo's VM: thousands of real ones from this machine, and a few that the story changes later. */
import { createCipheriv } from 'node:crypto'
import { copyFile, lstat, mkdir, opendir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** Where real files are taken from, in this order, until the quota is full. All are public, read-only system files. */
const sources = [
  '/usr/share/doc',
  '/usr/share/perl',
  '/usr/lib/python3',
  '/usr/share/zoneinfo',
  '/usr/share/mime',
  '/usr/include',
  '/usr/lib',
]

export interface FileTree {
  folder: string
  files: number
  bytes: number
}

/** Copies real files below `folder` until `filesMax` files or `bytesMax` bytes are there. */
export async function copyRealFiles(folder: string, limits: { filesMax: number; bytesMax: number }): Promise<FileTree> {
  const tree: FileTree = { folder, files: 0, bytes: 0 }
  for (const source of sources) {
    for await (const file of walk(source)) {
      if (tree.files >= limits.filesMax || tree.bytes >= limits.bytesMax) return tree
      const target = join(folder, 'system', file.path)
      await mkdir(dirname(target), { recursive: true })
      await copyFile(file.path, target)
      tree.files += 1
      tree.bytes += file.sizeBytes
    }
  }
  return tree
}

/** Bytes that look random and are the same in every run: what an encrypted database or a film looks like to a backup. */
export function incompressibleBytes(sizeBytes: number, seed: number): Buffer {
  const key = Buffer.alloc(16, seed)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes))
}

/** A log file as servers write them: long, repetitive, compressible. */
export function logText(lines: number): string {
  const levels = ['INFO', 'WARN', 'DEBUG']
  return Array.from({ length: lines }, (_, line) => {
    const at = new Date(1_760_000_000_000 + line * 997).toISOString()
    return `${at} ${levels[line % 3]} web-${line % 7} GET /orders/${(line * 7919) % 100_003} ${200 + (line % 5)} ${line % 311}ms\n`
  }).join('')
}

export async function writeTreeFile(folder: string, path: string, content: Buffer | string): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true })
  await writeFile(join(folder, path), content)
}

async function* walk(folder: string): AsyncGenerator<{ path: string; sizeBytes: number }> {
  let entries
  try {
    entries = await opendir(folder)
  } catch {
    return // A bare machine lacks some of the folders; the next one serves as well.
  }
  for await (const entry of entries) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* walk(path)
    else if (entry.isFile()) yield { path, sizeBytes: (await lstat(path)).size }
  }
}
