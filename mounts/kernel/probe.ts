/** Asks blkid what a part of a disk holds. */
import { runTool } from '../../tools/run-tool.ts'
import type { DiskRange, KernelDisk } from './kernel-disk.ts'

const PROBE_MS = 60_000
/** blkid found nothing; found several things at once. */
const NOTHING = 2
const AMBIVALENT = 8

export interface Found {
  /** As blkid names it; empty for nothing. */
  type: string
  label: string
  uuid: string
  /** Whether a partition table was found too. */
  hasTable: boolean
  /** What claims it when several file systems do; empty otherwise. */
  claims: string
}

/** `TOOL_MISSING`, `TOOL_FAILED`, `TOOL_TIMEOUT`. blkid runs without privileges, because it believes what it reads. */
export async function probe(disk: KernelDisk, range: DiskRange, signal?: AbortSignal): Promise<Found> {
  const blkid = ['blkid', '-p', '-o', 'udev', '--offset', String(range.offsetBytes), '--size', String(range.sizeBytes)]
  const { uid, gid } = disk.owner
  const asOwner = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--bounding-set=-all', '--no-new-privs', '--']
  // A relative name: the way to the folder may be closed to that user.
  const path = disk.path.startsWith(`${disk.folder}/`) ? disk.path.slice(disk.folder.length + 1) : disk.path
  const [program, args] = disk.enter('env', [`--chdir=${disk.folder}`, ...asOwner, ...blkid, '--', path])
  const { stdout } = await runTool(program, args, { timeoutMs: PROBE_MS, signal, allowExitCodes: [NOTHING, AMBIVALENT] })
  return foundIn(stdout)
}

/** From lines `ID_<NAME>=<value>`; of a value's two forms, the one that loses nothing. */
export function foundIn(printed: string): Found {
  const told = new Map<string, string>()
  for (const line of printed.split('\n')) {
    const [, name, value] = /^ID_(\w+)=(.*)$/.exec(line) ?? []
    if (name !== undefined && value !== undefined) told.set(name, value)
  }
  const tell = (name: string): string => told.get(name) ?? ''
  return {
    type: tell('FS_TYPE'),
    label: decoded(tell('FS_LABEL_ENC')),
    uuid: decoded(tell('FS_UUID_ENC')),
    hasTable: told.has('PART_TABLE_TYPE'),
    claims: tell('FS_AMBIVALENT'),
  }
}

/** `\x20` and the like stand for bytes. */
function decoded(text: string): string {
  const bytes = text.split(/(\\x[0-9a-f]{2})/).map((piece, index) => {
    return index % 2 === 0 ? Buffer.from(piece) : Buffer.from(piece.slice(2), 'hex')
  })
  return Buffer.concat(bytes).toString('utf8')
}
