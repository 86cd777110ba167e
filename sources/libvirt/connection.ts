/** One libvirt connection: where it leads, how it is asked, and where backups may keep scratch files. */
import { z } from 'zod'
import { HoldfastError, type JsonObject } from '../../domain/errors.ts'
import type { SshTarget } from '../../tools/ssh.ts'
import { virsh } from '../../tools/virsh.ts'
import type { SourceConnection } from '../registry.ts'
import { parseConnectionUri, type ConnectionUri } from './connection-uri.ts'
import { SshSocket } from './ssh-socket.ts'

/** Where QEMU keeps what the guest overwrites during a backup, and the sockets it serves from; on the hypervisor's host. */
export const DEFAULT_SCRATCH_FOLDER = '/var/tmp'

const absoluteFolder = z
  .string()
  .max(1024)
  .regex(/^\/(?!.*(^|\/)\.{1,2}(\/|$))\P{Cc}*$/u, 'give an absolute path without "." and ".."')

/** Stored in the catalog, shown by the API: nothing secret. */
export const libvirtConfig = z.strictObject({
  uri: z.string().max(1024),
  scratch_folder: absoluteFolder.default(DEFAULT_SCRATCH_FOLDER),
  /** `known_hosts` lines of the hypervisor's host; the mover user's own file when absent. */
  ssh_known_hosts: z.string().max(16_384).optional(),
})

export const libvirtCredentials = z.strictObject({
  ssh_private_key: z
    .string()
    .max(16_384)
    .regex(/^\s*-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/, 'give a private key in the OpenSSH or PEM form'),
})

export type LibvirtConfig = z.output<typeof libvirtConfig>

/** A libvirt that can be asked. */
export class LibvirtConnection {
  readonly uri: ConnectionUri
  readonly scratchFolder: string
  readonly config: LibvirtConfig
  readonly sourceId: string
  /** Of this process: for files that libvirt's client must be given, sockets, and keys. */
  readonly runFolder: string
  /** `null` for this machine. */
  readonly sshTarget: SshTarget | null
  private readonly sshSocket: SshSocket | null

  /** Opens nothing. `SOURCE_INVALID` */
  constructor(connection: SourceConnection, runFolder: string) {
    const config = checked(libvirtConfig, connection.config, connection.id)
    this.config = config
    this.uri = parseConnectionUri(config.uri)
    this.scratchFolder = config.scratch_folder.replace(/(?<=.)\/+$/, '')
    this.sourceId = connection.id
    this.runFolder = runFolder
    this.sshTarget = sshTargetOf(this.uri, config, connection)
    this.sshSocket = this.sshTarget && new SshSocket(this.sshTarget, this.uri, runFolder)
  }

  /** As {@link virsh}, on this connection; through SSH also the errors of `runSsh`. */
  ask(
    command: readonly string[],
    options: { timeoutMs?: number | undefined; signal?: AbortSignal | undefined } = {},
  ): Promise<string> {
    const shownUri = this.uri.text
    if (!this.sshSocket) return virsh(command, { uri: shownUri, ...options })
    return this.sshSocket.use((uri) => virsh(command, { uri, shownUri, ...options }), options)
  }

  /** Runs `work` with a URI that a program on this machine can use while it runs. */
  withUri<T>(work: (uri: string) => Promise<T>, options: { signal?: AbortSignal | undefined } = {}): Promise<T> {
    return this.sshSocket ? this.sshSocket.use(work, options) : work(this.uri.text)
  }
}

function sshTargetOf(uri: ConnectionUri, config: LibvirtConfig, connection: SourceConnection): SshTarget | null {
  if (uri.host === null) return null
  const credentials = connection.credentials && checked(libvirtCredentials, connection.credentials, connection.id)
  return {
    host: uri.host,
    user: uri.user,
    port: uri.port,
    privateKey: credentials && (() => credentials.ssh_private_key),
    knownHosts: config.ssh_known_hosts ?? null,
  }
}

/** The message names what is wrong, never what was given. */
function checked<T>(schema: z.ZodType<T>, value: JsonObject, id: string): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new HoldfastError('SOURCE_INVALID', `The source connection ${id} is not valid: ${z.prettifyError(parsed.error)}`)
}
