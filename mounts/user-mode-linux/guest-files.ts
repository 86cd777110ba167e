/** What the reader's kernel finds in its first file system: programs of this host with their libraries, kernel modules, and our own scripts. */
import { readdir, readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { HoldfastError } from '../../domain/errors.ts'
import { runTool } from '../../tools/run-tool.ts'
import type { ArchiveEntry } from './cpio.ts'
import { modulesWithNeeds } from './kernel-modules.ts'

const SCRIPTS = join(import.meta.dirname, 'guest')
const LDD_MS = 30_000

interface HostProgram {
  /** Where it may be, the first one found is taken. */
  from: readonly string[]
  to: string
  /** Debian's package. */
  package: string
}

const sbin = (name: string): string[] => [`/usr/sbin/${name}`, `/sbin/${name}`, `/usr/bin/${name}`, `/bin/${name}`]

const programs: readonly HostProgram[] = [
  { from: ['/usr/bin/perl'], to: 'bin/perl', package: 'perl-base' },
  { from: ['/bin/busybox', '/usr/bin/busybox'], to: 'bin/busybox', package: 'busybox-static' },
  { from: sbin('blkid'), to: 'sbin/blkid', package: 'util-linux' },
  { from: sbin('dmsetup'), to: 'sbin/dmsetup', package: 'dmsetup' },
  { from: sbin('lvm'), to: 'sbin/lvm', package: 'lvm2' },
  { from: sbin('mdadm'), to: 'sbin/mdadm', package: 'mdadm' },
  { from: sbin('ntfs-3g'), to: 'sbin/ntfs-3g', package: 'ntfs-3g' },
  { from: sbin('mount.exfat-fuse'), to: 'sbin/mount.exfat-fuse', package: 'exfat-fuse' },
]

const perlModules = ['strict.pm', 'warnings.pm', 'warnings/register.pm', 'constant.pm', 'vars.pm']
const PERL_MODULES_FROM = ['/usr/lib/x86_64-linux-gnu/perl-base', '/usr/lib/perl-base', '/usr/share/perl5']

/** `TOOL_MISSING` names the package to install. */
export async function guestFiles(signal?: AbortSignal): Promise<ArchiveEntry[]> {
  const files = new Map<string, ArchiveEntry>()
  const add = (entry: ArchiveEntry): void => void files.set(entry.path, entry)
  for (const file of await Promise.all([...programs.map(programFile), ...perlModules.map(perlFile)])) add(file)
  for (const library of await librariesOf(await Promise.all(programs.map(locate)), signal)) {
    add({ kind: 'file', path: library.slice(1), content: await readFile(library), executable: true })
  }
  for (const file of [...(await modulesWithNeeds()), ...(await scripts())]) add(file)
  const mountPoints = ['proc', 'sys', 'dev', 'run', 'v', 'etc', 'tmp']
  const folders = new Set(mountPoints)
  for (const path of files.keys()) for (const folder of foldersOf(path)) folders.add(folder)
  const sorted = [...folders].toSorted().map((path): ArchiveEntry => ({ kind: 'folder', path }))
  return [...sorted, ...[...files.values()].toSorted((one, other) => (one.path < other.path ? -1 : 1))]
}

/** Absolute paths of the libraries that programs are linked with, the loader among them. None for static ones. */
export async function librariesOf(paths: readonly string[], signal?: AbortSignal): Promise<string[]> {
  // 1: one of them is "not a dynamic executable".
  const { stdout } = await runTool('ldd', paths, { timeoutMs: LDD_MS, signal, allowExitCodes: [1] })
  return [...new Set(stdout.match(/(?<=\s)\/[^\s:]+(?= \()/g))].toSorted()
}

async function programFile(program: HostProgram): Promise<ArchiveEntry> {
  return { kind: 'file', path: program.to, content: await readFile(await locate(program)), executable: true }
}

async function locate(program: HostProgram): Promise<string> {
  for (const path of program.from) {
    const found = await realpath(path).catch(() => null)
    if (found !== null) return found
  }
  const name = basename(program.to)
  throw new HoldfastError(
    'TOOL_MISSING',
    `The program "${name}" is not installed, which reading the files of backups needs. Install it (Debian: ${program.package}).`,
    { details: { program: name, package: program.package } },
  )
}

async function perlFile(name: string): Promise<ArchiveEntry> {
  for (const folder of PERL_MODULES_FROM) {
    const content = await readFile(join(folder, name)).catch(() => null)
    if (content) return { kind: 'file', path: `lib/perl/${name}`, content, executable: false }
  }
  throw new HoldfastError('TOOL_MISSING', `Perl's module "${name}" is not installed. Install it (Debian: perl-base).`, {
    details: { program: name, package: 'perl-base' },
  })
}

async function scripts(): Promise<ArchiveEntry[]> {
  const names = (await readdir(SCRIPTS)).filter((name) => name.endsWith('.pl') || name === 'init.sh')
  return Promise.all(
    names.map(async (name) => {
      const content = await readFile(join(SCRIPTS, name))
      const isInit = name === 'init.sh'
      return { kind: 'file' as const, path: isInit ? 'init' : name, content, executable: isInit }
    }),
  )
}

function foldersOf(path: string): string[] {
  const folder = dirname(path)
  return folder === '.' ? [] : [...foldersOf(folder), folder]
}
