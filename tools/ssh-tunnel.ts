/** A unix socket of another machine, reached through one on this machine. */
import { randomBytes } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../domain/errors.ts'
import { startTool, unexpectedExit, type RunningTool, type ToolExit } from './run-tool.ts'
import { connectionError, sshError, sshName } from './ssh-errors.ts'
import { remoteCommand, sshArguments, writeSshFiles, type SshFiles, type SshTarget } from './ssh.ts'

export interface SshTunnelRequest {
  remoteSocket: string
  /**
   * When the tunnel counts as open. `listening`: this end accepts. `greeting`: the server at the other end has spoken, as NBD servers do
   * and libvirt does not.
   */
  ready: 'listening' | 'greeting'
  /**
   * A script that makes the server; must end when its standard input does, which is when the tunnel closes, the line breaks or we die.
   * Without one the server is expected to be there.
   */
  server?: { script: string; args: readonly string[] }
}

export interface SshTunnel {
  /** Here. */
  path: string
  /** Settles when the tunnel is gone, however it ended. */
  exited: Promise<ToolExit>
  /** Why the other end could not be reached by one who tried; `null` while all did. */
  failure(): HoldfastError | null
  /** Idempotent. */
  close(): Promise<void>
}

const READY_MS = 45_000
const READY_POLL_MS = 25
/** For the server there to end by itself and clean up. */
const SERVER_GRACE_MS = 5_000
const STOP_GRACE_MS = 5_000

/** Errors as of `runSsh`; `SOURCE_UNAVAILABLE` also when nothing serves the other end. Nothing is left behind on failure. */
export async function openSshTunnel(
  target: SshTarget,
  request: SshTunnelRequest,
  options: { runFolder: string; signal?: AbortSignal | undefined },
): Promise<SshTunnel> {
  await mkdir(options.runFolder, { recursive: true, mode: 0o700 })
  const path = join(options.runFolder, `${randomBytes(5).toString('hex')}.sock`)
  const forward = `${forwardedPath(path)}:${forwardedPath(request.remoteSocket)}`
  const files = await writeSshFiles(target, options.runFolder)
  let tunnel: SshTunnel | undefined
  try {
    const ssh = startTool('ssh', tunnelArguments(target, files, forward, request.server), {
      stdin: request.server === undefined ? 'empty' : 'held',
    })
    tunnel = {
      path,
      exited: ssh.exited,
      failure: () => (/open failed: /.test(ssh.stderrTail()) ? connectionError(ssh.stderrTail(), target) : null),
      close: () => close(ssh, path, request.server !== undefined),
    }
    // A line that breaks leaves the socket, and not everybody who had a tunnel looks back.
    void ssh.exited.then(() => rm(path, { force: true })).catch(() => undefined)
    await untilReady(ssh, { path, target, request, signal: options.signal })
    return tunnel
  } catch (error) {
    await tunnel?.close()
    throw sshError(error, target)
  } finally {
    await files.remove()
  }
}

function tunnelArguments(target: SshTarget, files: SshFiles, forward: string, server: SshTunnelRequest['server']): string[] {
  const settings = ['ExitOnForwardFailure=yes', 'StreamLocalBindUnlink=yes', 'StreamLocalBindMask=0177']
  return [
    ...sshArguments(target, files),
    ...settings.flatMap((setting) => ['-o', setting]),
    '-L',
    forward,
    ...(server === undefined ? ['-N', '--', target.host] : ['--', target.host, remoteCommand(server)]),
  ]
}

/** ssh splits at colons, takes backslashes as escapes and expands `%`. `SOURCE_INVALID` for what it would expand and nothing can escape. */
export function forwardedPath(path: string): string {
  if (!path.startsWith('/') || path.includes('${') || path.includes('\0'))
    throw new HoldfastError('SOURCE_INVALID', `The path "${path}" cannot be reached through SSH. Choose an ordinary folder.`, {
      details: { path },
    })
  return path.replaceAll(/[\\:]/g, '\\$&').replaceAll('%', '%%')
}

async function close(ssh: RunningTool, path: string, hasServer: boolean): Promise<void> {
  if (hasServer) {
    ssh.endInput()
    const patience = new AbortController()
    await Promise.race([ssh.exited, delay(SERVER_GRACE_MS, undefined, { signal: patience.signal }).catch(() => undefined)])
    patience.abort()
  }
  await ssh.stop(STOP_GRACE_MS)
  await rm(path, { force: true })
}

interface Waiting {
  path: string
  target: SshTarget
  request: SshTunnelRequest
  signal: AbortSignal | undefined
}

async function untilReady(ssh: RunningTool, { path, target, request, signal }: Waiting): Promise<void> {
  const ended = new AbortController()
  void ssh.exited.then(() => ended.abort())
  const enough = signal ? AbortSignal.any([signal, ended.signal]) : ended.signal
  const deadline = performance.now() + READY_MS
  for (;;) {
    const answer = await knock(path, request.ready, enough)
    signal?.throwIfAborted()
    if (ended.signal.aborted) throw await unexpectedExit(ssh)
    if (answer === 'open') return
    // ssh accepts at this end before it knows whether there is another one; a server of ours may still be starting.
    if (answer === 'closed' && request.server === undefined) throw connectionError(ssh.stderrTail(), target)
    if (performance.now() > deadline) {
      throw new HoldfastError(
        'SOURCE_UNAVAILABLE',
        `${sshName(target)} did not answer through the SSH tunnel within ${READY_MS} ms.`,
        { details: { host: target.host } },
      )
    }
    await delay(READY_POLL_MS)
  }
}

/** `refused`: nobody listens yet. `closed`: hung up on us before saying a word. */
function knock(path: string, ready: SshTunnelRequest['ready'], enough: AbortSignal): Promise<'refused' | 'closed' | 'open'> {
  return new Promise((resolve) => {
    const socket = connect(path)
    let connected = false
    const answer = (heard: 'refused' | 'closed' | 'open'): void => {
      enough.removeEventListener('abort', hangUp)
      socket.destroy()
      resolve(heard)
    }
    const hangUp = (): void => answer(connected ? 'closed' : 'refused')
    socket.once('connect', () => {
      connected = true
      if (ready === 'listening') answer('open')
    })
    socket.once('data', () => answer('open'))
    socket.once('error', hangUp)
    socket.once('close', hangUp)
    socket.setTimeout(READY_MS, hangUp)
    enough.addEventListener('abort', hangUp, { once: true })
    if (enough.aborted) hangUp()
  })
}
