/** An SSH server of a test's own: its host key, its only user key, a free port of the loopback interface. Never the machine's. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, connect } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { runTool, startTool, type RunningTool } from '../tools/run-tool.ts'
import type { SshTarget } from '../tools/ssh.ts'

export interface PrivateSshd {
  port: number
  user: string
  privateKey: string
  /** Its line for `known_hosts`. */
  knownHosts: string
  target: SshTarget
  /** Ends the server and every session of it, as a network that goes away. Waits until they are gone. */
  cut(): Promise<void>
  /** The same, for the end of a test. Idempotent. */
  stop(): Promise<void>
}

/** Needs `sshd` and root, who may log in whatever the machine's own server says. */
export async function startPrivateSshd(folder: string, settings: readonly string[] = []): Promise<PrivateSshd> {
  await mkdir(folder, { recursive: true })
  // Compiled into sshd; made by its service, which does not run here.
  await mkdir('/run/sshd', { recursive: true, mode: 0o755 })
  const privateKey = await makeKey(join(folder, 'user'))
  await makeKey(join(folder, 'host'))
  const port = await freePort()
  const { username: user } = userInfo()
  const config = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${folder}/host`,
    `AuthorizedKeysFile ${folder}/user.pub`,
    'PidFile none',
    'StrictModes no',
    'UsePAM no',
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    ...settings,
    '',
  ]
  await writeFile(join(folder, 'sshd_config'), config.join('\n'))
  const server = startTool('/usr/sbin/sshd', ['-D', '-e', '-f', join(folder, 'sshd_config')], { ownSession: true })
  await untilAccepting(port, server)
  const [type, key] = (await readFile(join(folder, 'host.pub'), 'utf8')).split(' ')
  const knownHosts = `[127.0.0.1]:${port} ${type} ${key}\n`
  const cut = async (): Promise<void> => {
    const sessions = await descendants(server.pid)
    for (const pid of [server.pid, ...sessions]) kill(pid)
    await server.exited
  }
  return {
    port,
    user,
    privateKey,
    knownHosts,
    target: { host: '127.0.0.1', user, port, privateKey: () => privateKey, knownHosts },
    cut,
    stop: cut,
  }
}

/** An unencrypted key pair; returns the private half. */
export async function makeKey(path: string): Promise<string> {
  await runTool('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'holdfast-test', '-f', path], { timeoutMs: 30_000 })
  return readFile(path, 'utf8')
}

/** A port of the loopback interface that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (typeof address !== 'object' || address === null) throw new Error('no port')
  return address.port
}

async function untilAccepting(port: number, server: RunningTool): Promise<void> {
  let ended = false
  void server.exited.then(() => (ended = true))
  for (const deadline = Date.now() + 30_000; ;) {
    const accepts = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1')
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
    if (accepts) return
    if (ended || Date.now() > deadline) throw new Error(`sshd did not start: ${server.stderrTail()}`)
    await delay(20)
  }
}

/** Only `sshd` processes: what runs in a session has to notice by itself. */
async function descendants(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '')
  const found: number[] = []
  for (const child of children
    .split(' ')
    .filter((word) => word !== '')
    .map(Number)) {
    const name = await readFile(`/proc/${child}/comm`, 'utf8').catch(() => '')
    if (name.startsWith('sshd')) found.push(child, ...(await descendants(child)))
  }
  return found
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}
