/**
 * libvirt behind SSH: its own socket, reached through a tunnel of ours. libvirt could start ssh itself, but takes neither known hosts nor
 * most other options for it, needs a helper program on the host, and would be a second place that decides who is trusted.
 */
import { HoldfastError } from '../../domain/errors.ts'
import { sshName } from '../../tools/ssh-errors.ts'
import { openSshTunnel, type SshTunnel } from '../../tools/ssh-tunnel.ts'
import { runSsh, type SshTarget } from '../../tools/ssh.ts'
import type { ConnectionUri } from './connection-uri.ts'

/** A tunnel that nobody uses is closed after this long: several questions come in a row. */
const IDLE_MS = 5_000
const FIND_MS = 30_000
const ABSENT_EXIT = 3

interface Question {
  signal?: AbortSignal | undefined
}

export class SshSocket {
  private readonly target: SshTarget
  private readonly uri: ConnectionUri
  private readonly runFolder: string
  private tunnel: Promise<SshTunnel> | null = null
  private users = 0
  private idle: NodeJS.Timeout | undefined

  constructor(target: SshTarget, uri: ConnectionUri, runFolder: string) {
    this.target = target
    this.uri = uri
    this.runFolder = runFolder
  }

  /** Runs `work` with a local connection URI. Errors as of `runSsh`, and `SOURCE_UNAVAILABLE` when no libvirt listens there. */
  async use<T>(work: (uri: string) => Promise<T>, { signal }: Question): Promise<T> {
    signal?.throwIfAborted()
    this.users += 1
    clearTimeout(this.idle)
    try {
      const tunnel = await this.open()
      signal?.throwIfAborted()
      return await through(tunnel, work(`qemu+unix://${this.uri.path}?socket=${encodeURIComponent(tunnel.path)}`))
    } finally {
      this.users -= 1
      if (this.users === 0) this.idle = setTimeout(() => void this.close(), IDLE_MS)
    }
  }

  /** Questions may share it, so that no single one's abort ends its opening. */
  private open(): Promise<SshTunnel> {
    if (this.tunnel) return this.tunnel
    const opening = this.connect()
    const forget = (): void => {
      if (this.tunnel === opening) this.tunnel = null
    }
    this.tunnel = opening
    opening.then((tunnel) => tunnel.exited.then(forget), forget)
    return opening
  }

  private async connect(): Promise<SshTunnel> {
    const { runFolder } = this
    const find = { script: FIND_SOCKET, args: socketCandidates(this.uri) }
    const found = await runSsh(this.target, find, { timeoutMs: FIND_MS, runFolder, allowExitCodes: [ABSENT_EXIT] })
    if (found.exitCode === ABSENT_EXIT) throw noLibvirt(this.target, this.uri)
    return openSshTunnel(this.target, { remoteSocket: found.stdout, ready: 'listening' }, { runFolder })
  }

  private async close(): Promise<void> {
    const { tunnel } = this
    this.tunnel = null
    // A tunnel that could not be opened has told those who wanted it.
    await tunnel?.then(
      (open) => open.close(),
      () => undefined,
    )
  }
}

/** libvirt's client only sees that it was hung up on; ssh knows why. */
async function through<T>(tunnel: SshTunnel, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    const hungUp = error instanceof HoldfastError && error.code === 'SOURCE_UNAVAILABLE'
    throw (hungUp && tunnel.failure()) || error
  }
}

const FIND_SOCKET = `for socket in "$@"; do
  case $socket in "~"*) socket="\${XDG_RUNTIME_DIR:-/run/user/$(id -u)}\${socket#?}" ;; esac
  if [ -S "$socket" ]; then printf %s "$socket"; exit 0; fi
done
exit ${ABSENT_EXIT}`

/** Where libvirt listens: the daemon for QEMU of newer hosts, the one for everything of older ones. `~` is the user's run folder. */
export function socketCandidates(uri: ConnectionUri): string[] {
  if (uri.socket !== null) return [uri.socket]
  const folder = uri.path === '/session' ? '~/libvirt' : '/run/libvirt'
  const all = { direct: [`${folder}/virtqemud-sock`], legacy: [`${folder}/libvirt-sock`] }
  return uri.mode === 'auto' ? [...all.direct, ...all.legacy] : all[uri.mode]
}

function noLibvirt(target: SshTarget, uri: ConnectionUri): HoldfastError {
  const searched = socketCandidates(uri).join(', ')
  return new HoldfastError(
    'SOURCE_UNAVAILABLE',
    `No libvirt listens on ${sshName(target)} (looked for ${searched}). Start libvirtd or virtqemud there, or name its socket in the URI (?socket=/…).`,
    { details: { host: target.host } },
  )
}
