/** One libvirt connection: where it leads, how it is asked, and where backups may keep scratch files. */
import { z } from 'zod'
import { HoldfastError } from '../../domain/errors.ts'
import { virsh } from '../../tools/virsh.ts'
import type { SourceConnection } from '../registry.ts'

/** Where QEMU keeps what the guest overwrites during a backup, and the sockets it serves from; on the hypervisor's host. */
export const DEFAULT_SCRATCH_FOLDER = '/var/tmp'

const absoluteFolder = z
  .string()
  .max(1024)
  .regex(/^\/(?!.*(^|\/)\.{1,2}(\/|$))[^\0-\x1f]*$/, 'give an absolute path without "." and ".."')

/** Stored in the catalog, shown by the API: nothing secret. */
export const libvirtConfig = z.strictObject({
  uri: z.string().max(1024),
  scratch_folder: absoluteFolder.default(DEFAULT_SCRATCH_FOLDER),
  /** `known_hosts` lines of the hypervisor's host; the mover user's own file when absent. */
  ssh_known_hosts: z.string().max(16_384).optional(),
})

export const libvirtCredentials = z.strictObject({ ssh_private_key: z.string().max(16_384) })

export type LibvirtConfig = z.output<typeof libvirtConfig>

export interface ConnectionUri {
  /** As given, checked. */
  text: string
  transport: 'local' | 'ssh'
  /** With `ssh` only. */
  host: string | null
  user: string | null
  port: number | null
  parameters: URLSearchParams
}

/** Others can name programs to run (`command`, `netcat`), switch checks off, or carry what is ours to give (`keyfile`). */
const ALLOWED_PARAMETERS = new Set(['socket', 'mode', 'proxy'])
const PROXIES = new Set(['auto', 'native', 'netcat'])

/**
 * Checks a libvirt connection URI: `qemu:///system`, `qemu:///session`, `qemu+unix:///system?socket=/…`, `qemu+ssh://[user@]host[:port]/system`.
 * `SOURCE_INVALID` with the reason. TCP and TLS are refused because QEMU's disks could not be reached through them.
 */
export function parseConnectionUri(text: string): ConnectionUri {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw invalid(text, 'it is not a URI')
  }
  const transport = { 'qemu:': 'local', 'qemu+unix:': 'local', 'qemu+ssh:': 'ssh' }[url.protocol]
  if (transport !== 'local' && transport !== 'ssh') {
    throw invalid(text, 'its scheme must be qemu, qemu+unix or qemu+ssh: the disks of other transports cannot be reached')
  }
  if (url.password !== '') throw invalid(text, 'it must not hold a password: give an SSH key as credentials')
  if (url.pathname !== '/system' && url.pathname !== '/session') throw invalid(text, 'its path must be /system or /session')
  if (url.hash !== '') throw invalid(text, 'it must not have a fragment')
  for (const [name, value] of url.searchParams) {
    if (!ALLOWED_PARAMETERS.has(name)) throw invalid(text, `the parameter "${name}" is not allowed`)
    if (name === 'socket' && !value.startsWith('/')) throw invalid(text, 'the parameter "socket" must be an absolute path')
    if (name === 'proxy' && !PROXIES.has(value)) throw invalid(text, 'the parameter "proxy" must be auto, native or netcat')
  }
  if (transport === 'local') {
    if (url.host !== '' || url.username !== '') throw invalid(text, 'a local URI has no host: use qemu+ssh for another machine')
    return { text, transport, host: null, user: null, port: null, parameters: url.searchParams }
  }
  const [host, user] = [url.hostname.replace(/^\[|\]$/g, ''), decodeURIComponent(url.username)]
  if (!/^[a-zA-Z0-9:][a-zA-Z0-9.:-]*$/.test(host)) throw invalid(text, 'its host is missing or not a host name')
  if (!/^([a-zA-Z0-9_][a-zA-Z0-9_.-]*)?$/.test(user)) throw invalid(text, 'its user is not a user name')
  return {
    text,
    transport,
    host,
    user: user === '' ? null : user,
    port: url.port === '' ? null : Number(url.port),
    parameters: url.searchParams,
  }
}

/** A libvirt that can be asked. Opens nothing: every question is a connection of its own. */
export class LibvirtConnection {
  readonly uri: ConnectionUri
  readonly scratchFolder: string
  readonly config: LibvirtConfig
  readonly sourceId: string

  /** Of this process: key files of SSH go below it. */
  readonly runFolder: string

  /** `SOURCE_INVALID` */
  constructor(connection: SourceConnection, runFolder: string) {
    const parsed = libvirtConfig.safeParse(connection.config)
    if (!parsed.success)
      throw new HoldfastError(
        'SOURCE_INVALID',
        `The source connection ${connection.id} is not valid: ${z.prettifyError(parsed.error)}`,
      )
    this.config = parsed.data
    this.uri = parseConnectionUri(parsed.data.uri)
    this.scratchFolder = parsed.data.scratch_folder.replace(/(?<=.)\/+$/, '')
    this.sourceId = connection.id
    this.runFolder = runFolder
  }

  /** As {@link virsh}, on this connection. */
  ask(command: readonly string[], options: { timeoutMs?: number; signal?: AbortSignal | undefined } = {}): Promise<string> {
    return virsh(command, { uri: this.uri.text, ...options })
  }
}

function invalid(text: string, reason: string): HoldfastError {
  return new HoldfastError(
    'SOURCE_INVALID',
    `The connection URI "${text.replace(/:\/\/[^/@]*@/, '://…@')}" cannot be used: ${reason}.`,
    {
      details: { reason },
    },
  )
}
