/** The first file system of the reader's kernel: one archive in the cache, made when it is first needed, for every mount. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cpioArchive } from './cpio.ts'
import { guestFiles } from './guest-files.ts'

/**
 * Absolute path of the archive. Its name is the hash of all that is in it, so another version of anything is another file; processes may make it at the same
 * time. `TOOL_MISSING` names the package to install.
 */
export async function makeInitramfs(cacheFolder: string, signal?: AbortSignal): Promise<string> {
  const archive = cpioArchive(await guestFiles(signal))
  const name = createHash('sha256').update(archive).digest('hex').slice(0, 32)
  const path = join(cacheFolder, `reader-${name}.cpio`)
  if (await isWhole(path, archive.length)) return path
  await mkdir(cacheFolder, { recursive: true })
  const draft = `${path}.${randomUUID()}.draft`
  try {
    await writeFile(draft, archive, { flag: 'wx', mode: 0o444 })
    await rename(draft, path)
    return path
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
}

async function isWhole(path: string, sizeBytes: number): Promise<boolean> {
  return stat(path).then(
    ({ size }) => size === sizeBytes,
    () => false,
  )
}
