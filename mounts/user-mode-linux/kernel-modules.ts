/** The modules of User-Mode Linux that reading disks needs; most file systems are built in. */
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { HoldfastError } from '../../domain/errors.ts'
import type { ArchiveEntry } from './cpio.ts'

const MODULES = '/usr/lib/uml/modules'

const fileSystems = ['fat', 'vfat', 'isofs', 'udf', 'fuse', 'hfsplus', 'squashfs', 'f2fs']
const characterSets = ['nls_cp437', 'nls_iso8859-1', 'nls_ascii', 'nls_utf8']
const deviceMapper = ['mod', 'bufio', 'snapshot', 'mirror', 'raid', 'thin-pool', 'cache', 'cache-smq', 'zero'].map(
  (name) => `dm-${name}`,
)
const raid = ['md-mod', 'linear', 'raid0', 'raid1', 'raid10', 'raid456']
const wanted = new Set([...fileSystems, ...characterSets, ...deviceMapper, ...raid])

/** With all that they need, and the table that says what needs what. `TOOL_MISSING` without User-Mode Linux. */
export async function modulesWithNeeds(): Promise<ArchiveEntry[]> {
  const entries: ArchiveEntry[] = []
  for (const release of await releases()) {
    const folder = join(MODULES, release)
    const lines = (await readFile(join(folder, 'modules.dep'), 'utf8')).split('\n').filter((line) => wanted.has(moduleName(line)))
    // Needs are listed with all of theirs.
    const paths = new Set(lines.flatMap((line) => line.split(/[:\s]+/).filter((path) => path !== '')))
    const target = `lib/modules/${release}`
    const table = Buffer.from(`${lines.join('\n')}\n`)
    entries.push({ kind: 'file', path: `${target}/modules.dep`, content: table, executable: false })
    for (const path of paths) {
      entries.push({ kind: 'file', path: `${target}/${path}`, content: await readFile(join(folder, path)), executable: false })
    }
  }
  return entries
}

function moduleName(line: string): string {
  return basename(line.split(':')[0] ?? '', '.ko')
}

async function releases(): Promise<string[]> {
  try {
    return await readdir(MODULES)
  } catch (error) {
    throw new HoldfastError(
      'TOOL_MISSING',
      'User-Mode Linux is not installed, which reading the files of backups needs. Install it (Debian: user-mode-linux), ' +
        'or let an administrator choose another driver with HOLDFAST_MOUNT_DRIVER.',
      { details: { program: 'linux.uml', package: 'user-mode-linux' }, cause: error },
    )
  }
}
