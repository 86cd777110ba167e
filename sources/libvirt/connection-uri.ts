/** Connection URIs of libvirt (https://libvirt.org/uri.html), as far as we follow them. */
import { HoldfastError } from '../../domain/errors.ts'

export interface ConnectionUri {
  /** As given, checked. */
  text: string
  transport: 'local' | 'ssh'
  path: '/system' | '/session'
  /** With `ssh` only. */
  host: string | null
  user: string | null
  port: number | null
  /** The libvirt socket to use instead of the usual one. */
  socket: string | null
  /** Whether libvirt has one daemon for everything (`legacy`) or one for QEMU (`direct`). */
  mode: 'auto' | 'legacy' | 'direct'
}

/** Others can name programs to run (`command`, `netcat`), switch checks off, or carry what is ours to give (`keyfile`). */
const ALLOWED_PARAMETERS = new Set(['socket', 'mode'])
const TRANSPORTS = new Map<string, ConnectionUri['transport']>([
  ['qemu:', 'local'],
  ['qemu+unix:', 'local'],
  ['qemu+ssh:', 'ssh'],
])

/**
 * Checks a libvirt connection URI: `qemu:///system`, `qemu:///session`, `qemu+unix:///system?socket=/…`, `qemu+ssh://[user@]host[:port]/system`.
 * `SOURCE_INVALID` with the reason. TCP and TLS are refused because QEMU's disks could not be reached through them.
 */
export function parseConnectionUri(text: string): ConnectionUri {
  const refuse = (reason: string): HoldfastError => invalid(text, reason)
  // URL parsers drop some of them in silence, and the text goes on to libvirt.
  if (/[\s\p{Cc}]/u.test(text)) throw refuse('it must not hold spaces or control characters')
  if (!URL.canParse(text)) throw refuse('it is not a URI')
  const url = new URL(text)
  const transport = TRANSPORTS.get(url.protocol)
  if (transport === undefined)
    throw refuse('its scheme must be qemu, qemu+unix or qemu+ssh: the disks of other transports cannot be reached')
  if (url.password !== '') throw refuse('it must not hold a password: give an SSH key as credentials')
  const path = url.pathname
  if (path !== '/system' && path !== '/session') throw refuse('its path must be /system or /session')
  if (url.hash !== '') throw refuse('it must not have a fragment')
  return { text, transport, path, ...addressOf(url, transport, refuse), ...parametersOf(url, refuse) }
}

type Refuse = (reason: string) => HoldfastError

function addressOf(
  url: URL,
  transport: ConnectionUri['transport'],
  refuse: Refuse,
): Pick<ConnectionUri, 'host' | 'user' | 'port'> {
  if (transport === 'local') {
    if (url.host !== '' || url.username !== '') throw refuse('a local URI has no host: use qemu+ssh for another machine')
    return { host: null, user: null, port: null }
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  // A word that begins with a dash would be an option of ssh.
  if (!/^[a-zA-Z0-9:][a-zA-Z0-9.:-]*$/.test(host)) throw refuse('its host is missing or not a host name')
  if (!/^([a-zA-Z0-9_][a-zA-Z0-9_.-]*)?$/.test(url.username)) throw refuse('its user is not a user name')
  if (url.port === '0') throw refuse('its port must be between 1 and 65535')
  return {
    host,
    user: url.username === '' ? null : url.username,
    port: url.port === '' ? null : Number(url.port),
  }
}

function parametersOf(url: URL, refuse: Refuse): Pick<ConnectionUri, 'socket' | 'mode'> {
  // libvirt takes it for "&" too, so that parameters we do not see would go on to it.
  if (url.search.includes(';')) throw refuse('its parameters must be divided by "&"')
  const given = new Map<string, string>()
  for (const [name, value] of url.searchParams) {
    if (!ALLOWED_PARAMETERS.has(name)) throw refuse(`the parameter "${name}" is not allowed`)
    if (given.has(name)) throw refuse(`the parameter "${name}" is given twice`)
    given.set(name, value)
  }
  const socket = given.get('socket') ?? null
  if (socket !== null && !/^\/[^\p{Cc}]+$/u.test(socket)) throw refuse('the parameter "socket" must be an absolute path')
  const mode = given.get('mode') ?? 'auto'
  if (mode !== 'auto' && mode !== 'legacy' && mode !== 'direct')
    throw refuse('the parameter "mode" must be auto, legacy or direct')
  return { socket, mode }
}

/** Without what may be a user and a password, also where the text is no URI and only looks like one. */
function invalid(text: string, reason: string): HoldfastError {
  const shown = text.replace(/:\/\/.*@/s, '://…@')
  return new HoldfastError('SOURCE_INVALID', `The connection URI "${shown}" cannot be used: ${reason}.`, { details: { reason } })
}
