/** What is mounted, from the kernel's own list. Reading it touches no file system, so that a dead share cannot hold whoever asks. */
import { readFile } from 'node:fs/promises'

export interface MountEntry {
  /** Absolute, as the kernel knows it: links are resolved. */
  mountPoint: string
  /** `ext4`, `nfs4`, `fuse.sshfs` … */
  fileSystem: string
  /** A device, `server:/export`, `//server/share` … */
  source: string
  /** Of the file system, as `8:1`: two mounts of one have the same. */
  device: string
  /** What of that file system is mounted: `/`, or another folder where a part of it was bound. */
  root: string
}

/** All mounts that this process sees, in the order in which they were made: of two at one place, the later one is seen there. */
export async function readMountInfo(): Promise<MountEntry[]> {
  return parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'))
}

/** `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: the words before the dash vary in number. */
export function parseMountInfo(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const words = line.split(' ')
    const dash = words.indexOf('-', 6)
    const [, , device, root, mountPoint] = words
    const [fileSystem, source] = dash === -1 ? [] : words.slice(dash + 1)
    if (device === undefined || root === undefined || mountPoint === undefined || fileSystem === undefined) return []
    if (source === undefined) return []
    const [unescapedRoot, at] = [unescape(root), unescape(mountPoint)]
    return [{ mountPoint: at, fileSystem: unescape(fileSystem), source: unescape(source), device, root: unescapedRoot }]
  })
}

/** What lies at a path, or nothing of its own. The path is absolute, without links. */
export function mountAt(entries: readonly MountEntry[], mountPoint: string): MountEntry | null {
  return entries.findLast((entry) => entry.mountPoint === mountPoint) ?? null
}

/** The mount that a path lies in: the longest, and of two at one place the later. */
export function mountOver(entries: readonly MountEntry[], path: string): MountEntry | null {
  const around = entries.filter(({ mountPoint }) => path === mountPoint || path.startsWith(mountPoint.replace(/\/?$/, '/')))
  return around.reduce<MountEntry | null>(
    (best, entry) => (best === null || entry.mountPoint.length >= best.mountPoint.length ? entry : best),
    null,
  )
}

/** Spaces, tabs, line breaks, backslashes and `#` are written in octal, byte by byte; other bytes stand for themselves. */
function unescape(word: string): string {
  return word.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCodePoint(Number.parseInt(octal, 8)))
}
