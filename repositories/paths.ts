/**
 * The layout of a repository as paths. Every name is checked before it becomes part of one, so that nothing that comes from a
 * request, a catalog row or a damaged file can lead out of the repository.
 */
import { isAbsolute, join, normalize } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { isBackupId } from '../domain/ids.ts'
import { MARKER_FILE, VMS_FOLDER, isVmFolder } from '../domain/repository-layout.ts'
import type { BackupReference } from './repository.ts'

// Also known to the locker, which imports nothing of this folder.
export { MARKER_FILE, isVmFolder }
export const MANIFEST_FILE = 'manifest.json'
/** Space set aside for deletions on a full disk. */
export const RESERVE_FILE = 'holdfast-reserve'

const PARTIAL = '.partial'
const DELETING = '.deleting'

/** What a folder inside a VM's folder is, by its name alone. `null`: not ours. */
export type BackupFolder = { kind: 'published' | 'staged' | 'deleting'; backupId: string }

/** Where everything of one backup lies. All absolute. */
export interface BackupPaths {
  vmFolder: string
  published: string
  staged: string
  deleting: string
}

export function vmsFolder(root: string): string {
  return join(root, VMS_FOLDER)
}

/** `INVALID_REQUEST` when a part of the reference is not a name that Holdfast forms. */
export function backupPaths(root: string, reference: BackupReference): BackupPaths {
  if (!isBackupId(reference.backupId)) {
    throw new HoldfastError('INVALID_REQUEST', `"${reference.backupId}" is not a backup id.`)
  }
  const vmFolder = vmFolderPath(root, reference.vmFolder)
  const published = join(vmFolder, reference.backupId)
  return { vmFolder, published, staged: published + PARTIAL, deleting: published + DELETING }
}

/** `INVALID_REQUEST` when it is not a name that Holdfast forms. */
export function vmFolderPath(root: string, vmFolder: string): string {
  if (!isVmFolder(vmFolder)) throw new HoldfastError('INVALID_REQUEST', `"${vmFolder}" is not a VM folder of a repository.`)
  return join(vmsFolder(root), vmFolder)
}

export function backupFolderOf(name: string): BackupFolder | null {
  const kind = name.endsWith(PARTIAL) ? 'staged' : name.endsWith(DELETING) ? 'deleting' : 'published'
  const suffix = kind === 'staged' ? PARTIAL : kind === 'deleting' ? DELETING : ''
  const backupId = name.slice(0, name.length - suffix.length)
  return isBackupId(backupId) ? { kind, backupId } : null
}

/** Folders that belong to the system: neither they nor anything below them. */
const systemTrees = ['/bin', '/boot', '/dev', '/etc', '/lib', '/lib32', '/lib64', '/proc', '/sbin', '/sys', '/usr']
/** Folders that hold everyone's folders: below them is fine, they themselves are not. */
const systemFolders = new Set([
  '/',
  '/home',
  '/media',
  '/mnt',
  '/opt',
  '/root',
  '/run',
  '/srv',
  '/tmp',
  '/var',
  '/var/lib',
  '/var/log',
])

/** The folder as we shall use it: absolute, normalized, no trailing slash. `REPO_INVALID` when it may not be a repository. */
export function checkRoot(path: string): string {
  if (!isAbsolute(path) || path.includes('\0')) {
    throw new HoldfastError('REPO_INVALID', `The repository's path "${path}" is not absolute: give one that begins with "/".`)
  }
  const root = normalize(path).replace(/(?<=.)\/+$/, '')
  const inTree = systemTrees.find((tree) => root === tree || root.startsWith(`${tree}/`))
  // Shared memory is the one place below /dev where files may be kept; tests and RAM disks use it.
  if (systemFolders.has(root) || (inTree !== undefined && !root.startsWith('/dev/shm/'))) {
    throw new HoldfastError('REPO_INVALID', `"${root}" belongs to the system: choose a folder of its own for the repository.`)
  }
  return root
}
