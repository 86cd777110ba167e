/** Folders for sockets. Each process has its own, so that what a killed one left is known by its pid and can be removed. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'

const OWNED = /^mover-(\d+)$/

/** The folder of this process, below the home's run folder. Short, because the names of sockets are limited to 107 bytes. */
export function processRunFolder(runFolder: string, pid = process.pid): string {
  return join(runFolder, `mover-${pid}`)
}

/** Runs `work` with an empty folder of its own, removed afterwards. */
export async function withRunFolder<T>(parent: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = join(parent, randomBytes(4).toString('hex'))
  await mkdir(folder, { recursive: true, mode: 0o700 })
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Removes the folders of processes that are gone and returns their names. Their programs died with them. */
export async function removeDeadRunFolders(runFolder: string): Promise<string[]> {
  const removed: string[] = []
  for (const name of await namesIn(runFolder)) {
    const pid = OWNED.exec(name)?.[1]
    if (pid === undefined || (await isRunning(Number(pid)))) continue
    await rm(join(runFolder, name), { recursive: true, force: true })
    removed.push(name)
  }
  return removed
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw error
  }
}

async function isRunning(pid: number): Promise<boolean> {
  // A signal would say "running" for another user's process and for a zombie alike; the folder in /proc is enough here.
  return stat(`/proc/${pid}`).then(
    () => true,
    () => false,
  )
}
