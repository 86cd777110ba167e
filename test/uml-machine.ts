/**
 * A Linux kernel in a process, with this host's programs: for what the host's own kernel lacks (device-mapper, RAID, FAT …) or asks privileges for.
 * What runs in it sees the host's files as they are, and changes them.
 */
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { nextProcessor } from '../mounts/user-mode-linux/processors.ts'
import { runTool } from '../tools/run-tool.ts'

const MODULES = '/usr/lib/uml/modules'
/** A kernel knows no more disks of this kind. */
const DISKS_MAX = 16

export interface UmlScript {
  /** For bash, run by root of that machine with `set -eu`. The disks are `/dev/ubda`, `/dev/ubdb` …; `load dm-mod` loads a module and what it needs. */
  script: string
  /** Absolute paths of image files, written through at once. */
  disks: readonly string[]
  /** Absolute path of a folder that exists, for what this run leaves: the script and what it printed. */
  folder: string
  timeoutMs: number
  memoryMib?: number
}

/** Runs a script and resolves with what it printed. `TOOL_FAILED` with the end of that when it failed, `TOOL_TIMEOUT`, `TOOL_MISSING`. */
export async function runInUml({ script, disks, folder, timeoutMs, memoryMib = 512 }: UmlScript): Promise<string> {
  if (disks.length > DISKS_MAX) throw new RangeError(`${disks.length} disks, but a machine has ${DISKS_MAX} at most`)
  const [init, output, result] = [join(folder, 'uml-init'), join(folder, 'uml-output'), join(folder, 'uml-result')]
  await writeFile(join(folder, 'uml-script'), `set -eu\n${await moduleLoader()}\n${script}\n`)
  await writeFile(init, initProgram(folder), { mode: 0o755 })
  await writeFile(output, '')
  await writeFile(result, '')
  const args = [
    `mem=${memoryMib}M`,
    'root=none',
    'rootfstype=hostfs',
    'rootflags=/',
    'rw',
    `init=${init}`,
    `uml_dir=${folder}/uml/`,
    'pty.legacy_count=0',
  ]
  const drives = disks.map((path, index) => `ubd${index}=${path}`)
  // On one processor, as the readers are: see mounts/user-mode-linux/processors.ts.
  const processor = String(await nextProcessor())
  await runTool(
    'taskset',
    ['--cpu-list', processor, 'linux.uml', ...args, ...drives, 'con0=null,fd:1', 'con=null', 'ssl=null', 'quiet'],
    {
      timeoutMs,
      allowExitCodes: [1, 134],
    },
  )
  const printed = await readFile(output, 'utf8')
  const exitCode = (await readFile(result, 'utf8')).trim()
  if (exitCode === '0') return printed
  throw new HoldfastError('TOOL_FAILED', `The script ended with ${exitCode || 'its machine'}: ${printed.trim().slice(-2_000)}`)
}

/** `-n`: what is not on the disks yet never gets there, as when the power goes; scripts say `sync` themselves. */
function initProgram(folder: string): string {
  return `#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DM_DISABLE_UDEV=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
bash '${folder}/uml-script' >'${folder}/uml-output' 2>&1 </dev/null
echo $? >'${folder}/uml-result'
busybox poweroff -n -f
`
}

/** Debian builds most of what we want as modules, and only a host that had this very kernel would find them by itself. */
async function moduleLoader(): Promise<string> {
  const version = (await readdir(MODULES).catch(() => []))[0]
  if (version === undefined)
    throw new HoldfastError('TOOL_MISSING', 'Debian\'s package "user-mode-linux" is not installed. Install it.')
  return `load() {
  local path needed
  path=$(grep -oE "^[^:]*/$1\\.ko:" '${MODULES}/${version}/modules.dep') || return 0
  needed=$(grep "^$path" '${MODULES}/${version}/modules.dep' | cut -d: -f2-)
  for needed in $(echo $needed | tr ' ' '\\n' | tac) "\${path%:}"; do
    busybox insmod '${MODULES}/${version}'/$needed 2>/dev/null || true
  done
}`
}
