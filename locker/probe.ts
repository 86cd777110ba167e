/**
 * `probe`: whether a lock would be one. In a folder of its own everything is tried that would harm a backup; only a place that refuses all
 * of it enforces anything. Some file systems have no flag, some take it and do nothing.
 */
import { randomBytes } from 'node:crypto'
import { appendFile, link, mkdir, open, rename, rmdir, statfs, truncate, unlink, writeFile } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { Enforcement } from '../domain/immutability.ts'
import type { ProbeRequest } from '../domain/lock-protocol.ts'
import { LOCK_PROBE_PREFIX } from '../domain/repository-layout.ts'
import { immutableAmong, setImmutable } from '../tools/chattr.ts'
import { exclusively } from './exclusive.ts'
import { errnoOf } from '../domain/system-errno.ts'
import { inFolder, inRoot, namesIn } from './folders.ts'
import type { Folder } from './folders.ts'

const FILE = 'file'
const FOLDER = 'folder'
const INSIDE = 'inside'

/** What is kept in memory is gone with the power, locked or not. */
const memoryFileSystems = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
])

/** `chattr` when everything was refused; otherwise `none`, with the first thing that was possible, or what chattr said. */
export function probe({ root }: ProbeRequest): Promise<Enforcement> {
  return inRoot(root, (folder) =>
    exclusively(folder, async () => {
      await removeLeftovers(folder)
      const { type } = await statfs(folder.handlePath)
      const memory = memoryFileSystems.get(type)
      if (memory !== undefined) return none(`${memory} keeps everything in memory: what is locked is gone with the power`)
      const name = `${LOCK_PROBE_PREFIX}${randomBytes(6).toString('hex')}`
      await mkdir(`${folder.handlePath}/${name}`, { mode: 0o700 })
      try {
        return await inFolder(folder, name, async (scratch) => tryAll(scratch!))
      } finally {
        await removeLeftovers(folder)
      }
    }),
  )
}

async function tryAll(scratch: Folder): Promise<Enforcement> {
  const at = (path: string): string => `${scratch.handlePath}/${path}`
  await writeFile(at(FILE), 'locked')
  await mkdir(at(FOLDER))
  await writeFile(at(`${FOLDER}/${INSIDE}`), 'locked')
  try {
    await setImmutable(scratch.handlePath, [FILE, FOLDER], true)
    const set = await immutableAmong(scratch.handlePath, [FILE, FOLDER])
    if (set.size < 2) return none('chattr set the flag without an error, but lsattr does not show it')
  } catch (error) {
    return none(saidBy(error))
  }
  for (const { what, attempt } of attemptsAt(at)) {
    const errno = await attempt().then(
      () => null,
      (error: unknown) => errnoOf(error) ?? 'an unknown error',
    )
    if (errno === null) return none(`a locked ${what}`)
    if (errno !== 'EPERM') return none(`trying what must be refused failed otherwise (${errno}): a locked ${what}`)
  }
  try {
    await setImmutable(scratch.handlePath, [FILE, FOLDER], false)
  } catch (error) {
    return none(`what is locked cannot be unlocked again: ${saidBy(error)}`)
  }
  return { enforcedBy: 'chattr', reason: null }
}

function attemptsAt(at: (path: string) => string): { what: string; attempt: () => Promise<unknown> }[] {
  return [
    { what: 'file could be opened for writing', attempt: () => open(at(FILE), 'r+').then((file) => file.close()) },
    { what: 'file could be overwritten', attempt: () => writeFile(at(FILE), 'other') },
    { what: 'file could be appended to', attempt: () => appendFile(at(FILE), 'more') },
    { what: 'file could be truncated', attempt: () => truncate(at(FILE), 0) },
    { what: 'file could be renamed', attempt: () => rename(at(FILE), at('moved')) },
    { what: 'file could be given a second name', attempt: () => link(at(FILE), at('second')) },
    { what: 'file could be deleted', attempt: () => unlink(at(FILE)) },
    { what: 'folder took a new file', attempt: () => writeFile(at(`${FOLDER}/new`), '') },
    { what: 'folder let a file be deleted', attempt: () => unlink(at(`${FOLDER}/${INSIDE}`)) },
    { what: 'folder let a file be replaced', attempt: () => rename(at(FILE), at(`${FOLDER}/${INSIDE}`)) },
    { what: 'folder could be renamed', attempt: () => rename(at(FOLDER), at('moved')) },
  ]
}

/**
 * Also what a crash left. Only the names that a probe makes, at the depth where it makes them: whoever gives another folder a probe's
 * name does not get it unlocked.
 */
async function removeLeftovers(root: Folder): Promise<void> {
  for (const name of await namesIn(root)) {
    if (!name.startsWith(LOCK_PROBE_PREFIX)) continue
    await inFolder(root, name, async (scratch) => {
      if (scratch === null) return
      const names = await namesIn(scratch)
      const known = names.filter((candidate) => [FILE, FOLDER].includes(candidate))
      await setImmutable(scratch.handlePath, known, false).catch(() => undefined)
      for (const file of [FILE, 'moved', 'second', `${FOLDER}/${INSIDE}`, `${FOLDER}/new`, `moved/${INSIDE}`, 'moved/new']) {
        await unlink(`${scratch.handlePath}/${file}`).catch(() => undefined)
      }
      for (const folder of [FOLDER, 'moved']) await rmdir(`${scratch.handlePath}/${folder}`).catch(() => undefined)
    })
    await rmdir(`${root.handlePath}/${name}`).catch(() => undefined)
  }
}

function none(reason: string): Enforcement {
  return { enforcedBy: 'none', reason }
}

/** The program's own words, without ours about how it ended. */
function saidBy(error: unknown): string {
  if (!(error instanceof HoldfastError)) return error instanceof Error ? error.message : String(error)
  return /(?:chattr|lsattr): .*/s.exec(error.message.replace(/^\w+ ended with [^:]*: /, ''))?.[0].trim() ?? error.message
}
