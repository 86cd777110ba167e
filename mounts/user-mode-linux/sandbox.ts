/**
 * Starts the reader's kernel so that it can do nothing but compute: as "nobody", without capabilities, network or host files besides the room's, in process and
 * mount namespaces of its own, with limits, and gone with us.
 */
import { dirname, join } from 'node:path'
import { startTool, type RunningTool } from '../../tools/run-tool.ts'
import { NOBODY } from '../nobody.ts'
import type { Room } from '../room.ts'
import { librariesOf } from './guest-files.ts'

const LINUX = '/usr/bin/linux.uml'
const SETPRIV = '/usr/bin/setpriv'
const MEMORY_MIB = 256
/** The kernel's memory is a file that it makes itself, of a little more than its size. */
const SCRATCH_BYTES = (MEMORY_MIB + 16) * 1024 * 1024
/** The memory's file has a hole of up to 1 GiB at its beginning, as the host places the program in its address space. */
const FILE_MAX_BYTES = 4 * 1024 * 1024 * 1024
const OPEN_FILES_MAX = 256
const NICE = 5

export interface KernelFiles {
  room: Room
  /** Host path of the first file system. */
  initramfs: string
  /**
   * `fast`: without the trials by which a kernel chooses its RAID 6 routines, more than a second of a start. Such a kernel must not meet RAID 6: the reader
   * says when a disk needs the `whole` one.
   */
  start: 'fast' | 'whole'
  /** Of {@link nextProcessor}. */
  processor: number
  /** What runs inside, with its libraries: of {@link sandboxPrograms}. */
  programs: readonly string[]
  /** Names in the room. */
  window: string
  overlay: string
}

/** Host paths of all that runs in the sandbox. `TOOL_MISSING`. */
export async function sandboxPrograms(): Promise<string[]> {
  return [LINUX, SETPRIV, ...(await librariesOf([LINUX, SETPRIV]))]
}

/** Started, not yet there. `TOOL_MISSING`; a program missing behind another one ends with 127 instead. */
export function startKernel(files: KernelFiles, signal: AbortSignal): RunningTool {
  const sandbox = [...namespaces, ...files.programs.flatMap(bindProgram), ...folders, ...bindings(files)]
  const inside = [SETPRIV, ...asNobody, '--', LINUX, ...kernelArguments, ...(files.start === 'fast' ? withoutTrials : [])]
  const [program, args] = files.room.enter('prlimit', [
    ...limits,
    'taskset',
    '--cpu-list',
    String(files.processor),
    'nice',
    '-n',
    String(NICE),
    'bwrap',
    ...sandbox,
    '--',
    ...inside,
  ])
  return startTool(program, args, { channel: true, signal })
}

const limits = ['--core=0', `--fsize=${FILE_MAX_BYTES}`, `--nofile=${OPEN_FILES_MAX}`]

/** No user namespace, which some hosts forbid; two capabilities to become "nobody", who has none. */
const namespaces = words(
  '--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup-try',
  '--die-with-parent --new-session --clearenv --setenv HOME /tmp --setenv TMPDIR /tmp',
  '--cap-add CAP_SETUID --cap-add CAP_SETGID',
)

const folders = words(`--proc /proc --dev /dev --perms 1777 --size ${SCRATCH_BYTES} --tmpfs /tmp`)

const asNobody = words(
  `--reuid ${NOBODY.uid} --regid ${NOBODY.gid} --clear-groups --no-new-privs --inh-caps=-all --pdeathsig KILL`,
)

/**
 * The console goes to standard error, whose end is kept; the reader's line is standard input and output. Making the 256 old terminals of BSD, which
 * nobody opens, would take a third of a second.
 */
const kernelArguments = words(
  `mem=${MEMORY_MIB}M initrd=/initramfs ubd0r=/disk ubd1=/overlay iomem=mmapper,/window`,
  'con0=null,fd:2 con=null ssl1=fd:0,fd:1 ssl=null pty.legacy_count=0 quiet uml_dir=/tmp/uml/',
)

const withoutTrials = ['initcall_blacklist=raid6_select_algo']

/** Its folders first, because those that bwrap makes by itself are root's alone. */
function bindProgram(path: string): string[] {
  return [...foldersOf(path).flatMap((folder) => ['--perms', '0755', '--dir', folder]), '--ro-bind', path, path]
}

function foldersOf(path: string): string[] {
  const folder = dirname(path)
  return folder === '/' ? [] : [...foldersOf(folder), folder]
}

function bindings({ room, initramfs, window, overlay }: KernelFiles): string[] {
  const inRoom = (name: string): string => join(room.folder, name)
  return [
    '--ro-bind',
    initramfs,
    '/initramfs',
    '--ro-bind',
    inRoom('disk'),
    '/disk',
    '--bind',
    inRoom(window),
    '/window',
    '--bind',
    inRoom(overlay),
    '/overlay',
    ...words('--remount-ro / --chdir /'),
  ]
}

function words(...lines: string[]): string[] {
  return lines.flatMap((line) => line.split(' '))
}
