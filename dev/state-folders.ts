/** The folders of the state folder, made private. */
import { lstat, mkdir, rm } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import { homeFolders } from '../runtime/environment.ts'
import type { HomeFolders } from '../runtime/environment.ts'

/** Creates what is missing below `home` and empties the run folder. For the holder of the state lock only. `INVALID_REQUEST`. */
export async function prepareStateFolders(home: string): Promise<HomeFolders> {
  const folders = homeFolders(home)
  await mkdir(home, { recursive: true, mode: 0o700 })
  for (const folder of [folders.keys, folders.logs]) await mkdir(folder, { recursive: true, mode: 0o700 })
  await refuseForeign(folders.run)
  await rm(folders.run, { recursive: true, force: true })
  await mkdir(folders.run, { mode: 0o700 })
  return folders
}

/** A run folder outside `home` has a predictable name: one that somebody else put there could hand us their sockets. */
async function refuseForeign(folder: string): Promise<void> {
  const found = await lstat(folder).catch(() => undefined)
  if (!found || (found.isDirectory() && found.uid === process.getuid?.())) return
  throw new HoldfastError(
    'INVALID_REQUEST',
    `${folder} is not a folder of ours. Remove it, or set HOLDFAST_HOME to a shorter path.`,
  )
}
