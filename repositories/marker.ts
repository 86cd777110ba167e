/** `holdfast-repository.json`: what says that a folder is a repository, and which one. */
import { randomBytes } from 'node:crypto'
import { link, lstat, mkdir, open, readFile, readdir, realpath, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../domain/errors.ts'
import { LOCK_PROBE_PREFIX } from '../domain/repository-layout.ts'
import { syncFolder, writeDurably } from './durable-files.ts'
import { errnoOf, onFiles } from './file-errors.ts'
import { MARKER_FILE, RESERVE_FILE, checkRoot, vmsFolder } from './paths.ts'
import { PROBE_PREFIX } from './storage-probe.ts'

const FORMAT_VERSION = 1
const TEMPORARY_PREFIX = `.${MARKER_FILE}.`

const marker = z.looseObject({ id: z.string().min(1), format_version: z.int(), created_at: z.string() })

/** Makes `root` the repository `id`, or checks that it is. `REPO_INVALID` when it is another's, or holds files that are not ours. Idempotent. */
export async function initializeRoot(root: string, id: string): Promise<void> {
  await onFiles(root, 'prepare the folder', async () => {
    await mkdir(root, { recursive: true, mode: 0o700 })
    // A link may lead into a system folder that the path itself does not show.
    checkRoot(await realpath(root))
    if ((await readMarkerId(root)) === null) await adopt(root, id)
    const found = await readMarkerId(root)
    if (found !== null && found !== id) throw belongsToAnother(root, id, found)
  })
  await checkMarker(root, id)
  await onFiles(root, 'prepare the folder', () => makeVmsFolder(root))
}

/**
 * Checks that `root` is the repository `id` now. Asked before every use: under a share that is not mounted lies an empty folder,
 * and an empty folder must never pass for a repository without backups.
 * `REPO_UNAVAILABLE` when the marker is gone, `REPO_INVALID` when it names another repository.
 */
export async function checkMarker(root: string, id: string): Promise<void> {
  const found = await onFiles(root, `read ${MARKER_FILE}`, () => readMarkerId(root))
  if (found === id) return
  if (found === null) {
    throw new HoldfastError(
      'REPO_UNAVAILABLE',
      `${root} holds no ${MARKER_FILE}: the disk or share is not mounted, or was emptied.`,
      {
        details: { path: root, repository_id: id },
      },
    )
  }
  throw new HoldfastError(
    'REPO_INVALID',
    `${root} is repository "${found}", not "${id}": give each repository a folder of its own.`,
    {
      details: { path: root, repository_id: id, found_repository_id: found },
    },
  )
}

/** Of the repository that lies there; `null` without a marker, or without the folder. `REPO_INVALID` when it cannot be read by us. */
export async function readMarkerId(root: string): Promise<string | null> {
  let text: string
  try {
    text = await readFile(join(root, MARKER_FILE), 'utf8')
  } catch (error) {
    // ENOENT of the folder itself ends here too: both mean that no repository can be seen.
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
  return markerIdIn(text, root)
}

function markerIdIn(text: string, root: string): string {
  const parsed = marker.safeParse(jsonOrNull(text))
  if (!parsed.success) throw invalid(root, `its ${MARKER_FILE} is damaged, or was not written by Holdfast`)
  const { id, format_version: version } = parsed.data
  if (version > FORMAT_VERSION) {
    throw invalid(
      root,
      `it is repository "${id}" in format ${version}, of a newer Holdfast; this one knows ${FORMAT_VERSION}. Update this Holdfast`,
    )
  }
  if (version < FORMAT_VERSION) throw invalid(root, `its format ${version} is none that Holdfast ever wrote`)
  return id
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The schema refuses null with the one message for every kind of damage.
    return null
  }
}

/** Makes an empty folder ours: the marker appears whole or not at all, and never over another's. */
async function adopt(root: string, id: string): Promise<void> {
  await refuseForeignFiles(root)
  await makeVmsFolder(root)
  const temporary = join(root, `${TEMPORARY_PREFIX}${randomBytes(6).toString('hex')}`)
  const content = { id, format_version: FORMAT_VERSION, created_at: new Date().toISOString() }
  await writeDurably(temporary, `${JSON.stringify(content, null, 2)}\n`)
  try {
    await linkOrCopy(temporary, join(root, MARKER_FILE))
  } catch (error) {
    // Another process was first; whose it is now is read next.
    if (errnoOf(error) !== 'EEXIST') throw error
  } finally {
    await rm(temporary, { force: true })
  }
  await syncFolder(root)
}

/** Not `recursive`: on a read-only file system that says ENOENT. */
async function makeVmsFolder(root: string): Promise<void> {
  try {
    await mkdir(vmsFolder(root), { mode: 0o700 })
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
  }
}

/** Some shares have no hard links (a disk with FAT behind a NAS): there the marker appears under its name at once, still never over another's. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to)
  } catch (error) {
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(errnoOf(error) ?? '')) throw error
    await writeNew(to, await readFile(from, 'utf8'))
  }
}

/** `EEXIST` when there is something already, which stays as it is. */
async function writeNew(path: string, content: string): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } catch (error) {
    // A marker with a part of its text would pass for a damaged repository.
    await rm(path, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

/** `REPO_INVALID` for files that are not ours. */
export async function refuseForeignFiles(root: string): Promise<void> {
  const names = await readdir(root)
  const prefixes = [TEMPORARY_PREFIX, PROBE_PREFIX, LOCK_PROBE_PREFIX]
  const ours = (name: string): boolean =>
    prefixes.some((prefix) => name.startsWith(prefix)) || name === RESERVE_FILE || name === 'lost+found'
  const foreign = names.filter((name) => !ours(name))
  // An empty `vms` is what a crash between the first two steps of `adopt` leaves.
  if (foreign.length === 1 && foreign[0] === 'vms' && (await isEmptyFolder(vmsFolder(root)))) return
  if (foreign.length > 0) {
    throw invalid(
      root,
      `it is not empty and holds no ${MARKER_FILE} (first found: "${foreign.sort()[0]}"); choose an empty folder`,
    )
  }
}

async function isEmptyFolder(path: string): Promise<boolean> {
  return (await lstat(path)).isDirectory() && (await readdir(path)).length === 0
}

/** For who registers; who uses it reads {@link checkMarker}. */
function belongsToAnother(root: string, id: string, found: string): HoldfastError {
  return new HoldfastError(
    'REPO_INVALID',
    `${root} is repository "${found}" already. If that one is registered, use it under its own name. Otherwise it belongs to another installation of ` +
      `Holdfast: nothing of it was changed. Give this repository an empty folder or share of its own.`,
    { details: { path: root, repository_id: id, found_repository_id: found } },
  )
}

function invalid(root: string, reason: string): HoldfastError {
  return new HoldfastError('REPO_INVALID', `${root} cannot be a repository: ${reason}.`, { details: { path: root, reason } })
}
