/** Where folders really lie, and which lie where a system call may never come back. Found out without touching what may hang. */
import { lstat, readlink } from 'node:fs/promises'
import { resolve } from 'node:path'
import { mountOver, readMountInfo, type MountEntry } from '../tools/mount-info.ts'

/** By the kernel's names; FUSE is a program of somebody, and the others ask a server. */
const hanging =
  /^(fuse|fuseblk|fuse\..*|nfs\d?|cifs|smb\d?|smbfs|ceph|9p|virtiofs|afs|coda|ncpfs|lustre|gfs2?|ocfs2|glusterfs|beegfs|orangefs|autofs)$/

/** Of this host's mounts as they are now. */
export async function mayHang(path: string): Promise<boolean> {
  return (await placeOf(path)).mayHang
}

export interface PathPlace {
  /** Where the path leads. Links are read as far as reading is safe; from there on it is as it was given. */
  path: string
  mayHang: boolean
}

/** `realpath` for what may not answer, or not exist. `path`: absolute. */
export async function placeOf(path: string): Promise<PathPlace> {
  return follow(await readMountInfo(), path)
}

const LINKS_MAX = 40

/** Goes along the path name by name, so that each link is read only where reading is safe. */
async function follow(entries: readonly MountEntry[], path: string): Promise<PathPlace> {
  let rest = path.split('/').filter((name) => name !== '')
  let walked = '/'
  for (let links = 0; links <= LINKS_MAX;) {
    if (isHanging(entries, walked)) return { path: resolve(walked, ...rest), mayHang: true }
    const [name, ...following] = rest
    if (name === undefined) return { path: walked, mayHang: false }
    const target = await linkAt(resolve(walked, name), entries)
    if (target === null) {
      walked = resolve(walked, name)
      rest = following
    } else {
      links++
      rest = [
        ...resolve(walked, target)
          .split('/')
          .filter((part) => part !== ''),
        ...following,
      ]
      walked = '/'
    }
  }
  return { path: resolve(path), mayHang: false }
}

async function linkAt(path: string, entries: readonly MountEntry[]): Promise<string | null> {
  if (isHanging(entries, path)) return null
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : null
  } catch {
    // Not there, or not to be looked at: then nothing of it hangs either.
    return null
  }
}

function isHanging(entries: readonly MountEntry[], path: string): boolean {
  return hanging.test(mountOver(entries, path)?.fileSystem ?? '')
}
