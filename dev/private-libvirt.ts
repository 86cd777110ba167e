/**
 * A libvirtd of our own, for the demo, the bench and the tests: in a mount namespace with its own configuration, state and run folders,
 * so that it neither sees nor touches the machine's. Its sockets, and the disks of its domains, lie in ordinary folders that everybody can reach.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../domain/errors.ts'
import { runTool, startTool, type RunningTool } from '../tools/run-tool.ts'
import { virsh } from '../tools/virsh.ts'

export interface PrivateLibvirt {
  uri: string
  folder: string
  /** `virsh` on it. */
  ask(...command: string[]): Promise<string>
  /** Ends libvirtd as a crash would (domains run on), and starts it again. */
  restart(): Promise<void>
  /** Pid of a running domain's QEMU. */
  pidOf(domain: string): Promise<number>
  /** Domains are destroyed, then libvirtd ends. Idempotent. */
  stop(): Promise<void>
}

/** Why there cannot be a libvirtd of our own with its disks below `folder`, for people; `null` when there can. */
export async function libvirtObstacle(folder: string): Promise<string | null> {
  // Paths go through libvirt's configuration, XML and the monitor, which all quote in ways of their own.
  if (!/^[\w./-]+$/.test(folder)) return `the path ${folder} holds more than letters, digits, dots and dashes`
  if (process.getuid?.() !== 0) return 'a libvirtd of its own needs root'
  for (const program of ['libvirtd', 'virsh', 'qemu-system-x86_64']) {
    try {
      await runTool(program, ['--version'], { timeoutMs: 30_000 })
    } catch (error) {
      if (error instanceof HoldfastError && error.code === 'TOOL_MISSING')
        return `${program} is not installed ("npm run bootstrap -- --tests" installs it)`
      throw error
    }
  }
  const unshare = await runTool('unshare', ['--mount', 'true'], { timeoutMs: 30_000, allowExitCodes: [1] })
  return unshare.exitCode === 0 ? null : 'this machine allows no mount namespaces'
}

const mounts = [
  ['etc', '/etc/libvirt'],
  ['run', '/run/libvirt'],
  ['lib', '/var/lib/libvirt'],
  ['log', '/var/log/libvirt'],
] as const

/** What libvirtd finds out about the machine's QEMU takes it seconds. It checks what it remembers, so all of ours may share that. */
const cacheFolder = resolve(import.meta.dirname, '../.tools/libvirt-cache')

/**
 * Needs root and `libvirtd`, `virsh`, `qemu-system-x86_64`. Everything it keeps lies below `folder`, whose path must be short enough for
 * unix sockets. End it with {@link PrivateLibvirt.stop}.
 */
export async function startPrivateLibvirt(folder: string): Promise<PrivateLibvirt> {
  for (const [name] of mounts) await mkdir(join(folder, name, 'qemu'), { recursive: true })
  await mkdir(cacheFolder, { recursive: true })
  await writeFile(
    join(folder, 'etc/libvirtd.conf'),
    `unix_sock_dir = "${folder}/run"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\nlog_outputs = "2:file:${folder}/log/libvirtd.log"\n`,
  )
  await writeFile(
    join(folder, 'etc/qemu.conf'),
    'user = "root"\ngroup = "root"\nsecurity_driver = "none"\ndynamic_ownership = 0\nremember_owner = 0\nstdio_handler = "file"\ncgroup_controllers = []\nnamespaces = []\n',
  )
  await writeFile(join(folder, 'start.sh'), startScript(folder))
  const uri = `qemu+unix:///system?socket=${folder}/run/libvirt-sock`
  const ask = (...command: string[]): Promise<string> => virsh(command, { uri, timeoutMs: 90_000 })
  let daemon = await startDaemon(folder, ask)
  let stopped: Promise<void> | undefined
  return {
    uri,
    folder,
    ask,
    async restart() {
      process.kill(daemon.pid, 'SIGKILL')
      await daemon.exited
      daemon = await startDaemon(folder, ask)
    },
    pidOf: async (domain) => Number(await readFile(join(folder, 'run/qemu', `${domain}.pid`), 'utf8')),
    stop: () => (stopped ??= stopAll(folder, daemon)),
  }
}

function startScript(folder: string): string {
  const binds = mounts.map(([name, place]) => `mkdir -p ${place}\nmount --bind "${folder}/${name}" ${place}`)
  return [
    'set -e',
    'mount --make-rprivate /',
    ...binds,
    `mkdir -p /var/cache/libvirt`,
    `mount --bind "${cacheFolder}" /var/cache/libvirt`,
    ...debianUsers(folder),
    `exec libvirtd --config /etc/libvirt/libvirtd.conf --pid-file "${folder}/libvirtd.pid"`,
    '',
  ].join('\n')
}

/**
 * Debian's libvirt refuses to start without the user `libvirt-qemu`, whom only its system service's package makes. Where that is not
 * installed, this libvirtd is shown one more user than the machine has.
 */
function debianUsers(folder: string): string[] {
  const [user, id] = ['libvirt-qemu', 64055]
  const add = (file: string, line: string): string =>
    `cp /etc/${file} "${folder}/${file}"\necho '${line}' >>"${folder}/${file}"\nmount --bind "${folder}/${file}" /etc/${file}`
  return [
    `if ! id ${user} >/dev/null 2>&1; then`,
    add('group', `${user}:x:${id}:`),
    add('passwd', `${user}:x:${id}:${id}::/nonexistent:/usr/sbin/nologin`),
    'fi',
  ]
}

async function startDaemon(folder: string, ask: PrivateLibvirt['ask']): Promise<RunningTool> {
  await rm(join(folder, 'libvirtd.pid'), { force: true })
  const daemon = startTool('unshare', ['--mount', 'sh', join(folder, 'start.sh')])
  let ended = false
  void daemon.exited.then(() => (ended = true))
  for (const deadline = Date.now() + 60_000; ;) {
    try {
      await ask('version')
      return daemon
    } catch (error) {
      if (ended || Date.now() > deadline) throw new Error(`libvirtd did not start: ${daemon.stderrTail()}`, { cause: error })
      await delay(50)
    }
  }
}

async function stopAll(folder: string, daemon: RunningTool): Promise<void> {
  await daemon.stop(5_000)
  await endDomains(folder)
}

/** Ends the domains that a libvirtd of ours left in `folder`. By pid files, because a test, or a crash, may have ended that libvirtd. */
export async function endDomains(folder: string): Promise<void> {
  const names = await readdir(join(folder, 'run/qemu')).catch(() => []) // There may never have been one.
  for (const name of names) {
    if (!name.endsWith('.pid') || name === 'driver.pid') continue
    const pid = Number(await readFile(join(folder, 'run/qemu', name), 'utf8'))
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes('qemu-system')) process.kill(pid, 'SIGKILL')
  }
}
