/**
 * Which mount options an administrator may give for a share: an allow-list with the shape of every value, because an option can make a share hang
 * for ever, let its files run as programs, or read a file of the host.
 */

/** What an option's value may be. `null`: it has none. */
type OptionValue = RegExp | null

const ATTRIBUTE_SECONDS = /^(?:[0-9]|[1-9][0-9]{1,2}|[12][0-9]{3}|3[0-5][0-9]{2}|3600)$/
const PORT = /^(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$/
const TRANSFER_BYTES = /^[1-9][0-9]{3,7}$/

const common: Record<string, OptionValue> = {
  ro: null,
  rw: null,
  soft: null,
  noatime: null,
  nodiratime: null,
  relatime: null,
  nosuid: null,
  nodev: null,
  noexec: null,
  port: PORT,
  rsize: TRANSFER_BYTES,
  wsize: TRANSFER_BYTES,
  actimeo: ATTRIBUTE_SECONDS,
  acdirmax: ATTRIBUTE_SECONDS,
}

const nfsVersion = /^(?:3|4|4\.[012])$/

const allowed: Record<'nfs' | 'cifs', Record<string, OptionValue>> = {
  nfs: {
    ...common,
    softerr: null,
    lock: null,
    nolock: null,
    // Tenths of a second, a minute at most; and so few repetitions that a dead server is given up within minutes.
    timeo: /^(?:[1-9][0-9]?|[1-5][0-9]{2}|600)$/,
    retrans: /^[0-5]$/,
    vers: nfsVersion,
    nfsvers: nfsVersion,
    proto: /^(?:tcp|tcp6)$/,
    mountproto: /^(?:tcp|tcp6)$/,
    mountport: PORT,
    sec: /^(?:sys|krb5|krb5i|krb5p)$/,
    nconnect: /^(?:[1-9]|1[0-6])$/,
    acregmin: ATTRIBUTE_SECONDS,
    acregmax: ATTRIBUTE_SECONDS,
    acdirmin: ATTRIBUTE_SECONDS,
    ac: null,
    noac: null,
    lookupcache: /^(?:all|none|pos|positive)$/,
    rdirplus: null,
    nordirplus: null,
    resvport: null,
    noresvport: null,
    noacl: null,
  },
  cifs: {
    ...common,
    vers: /^(?:2\.0|2\.1|3|3\.0|3\.0\.2|3\.02|3\.1\.1)$/,
    sec: /^(?:ntlmssp|ntlmsspi|krb5|krb5i)$/,
    seal: null,
    cache: /^(?:strict|none)$/,
    acregmax: ATTRIBUTE_SECONDS,
    closetimeo: /^(?:[0-9]|[1-5][0-9]|60)$/,
    echo_interval: /^(?:[1-9]|[1-5][0-9]|60)$/,
    serverino: null,
    noserverino: null,
    nobrl: null,
    mfsymlinks: null,
    nodfs: null,
    nosharesock: null,
    multichannel: null,
    max_channels: /^(?:[1-9]|1[0-6])$/,
    nopersistenthandles: null,
    noposix: null,
    iocharset: /^utf8$/,
  },
}

const SECRET = 'a password is given as "password", which is sealed, and never as an option'
const OWNER = 'the files belong to whom the mover runs as; others could read or change backups'
const HANGS = 'a hard mount keeps whatever touches it waiting for ever when the server is gone'
const FSTAB = 'it is for /etc/fstab and means nothing here'
const SAFE = 'files of a repository are never run and are no devices'
const FIELD = 'it has a field of its own in the configuration'

/** Options that people will try, with the reason why not. */
const refusals: Record<string, string> = {
  hard: HANGS,
  bg: 'a mount goes on in the background after it has failed',
  fg: FSTAB,
  retry: 'how long a mount is tried is decided by Holdfast',
  exec: SAFE,
  suid: SAFE,
  dev: SAFE,
  pass: SECRET,
  password: SECRET,
  password2: SECRET,
  cred: SECRET,
  credentials: SECRET,
  user: FIELD,
  username: FIELD,
  dom: FIELD,
  domain: FIELD,
  workgroup: FIELD,
  guest: 'leave "username" out to mount as guest',
  ip: FIELD,
  addr: FIELD,
  unc: FIELD,
  prefixpath: FIELD,
  uid: OWNER,
  gid: OWNER,
  cruid: OWNER,
  forceuid: OWNER,
  forcegid: OWNER,
  file_mode: OWNER,
  dir_mode: OWNER,
  fmask: OWNER,
  dmask: OWNER,
  multiuser: OWNER,
  noperm: OWNER,
  remount: 'Holdfast mounts by itself',
  bind: 'Holdfast mounts the share itself and nothing else',
  move: 'Holdfast mounts the share itself and nothing else',
  loop: 'Holdfast mounts the share itself and nothing else',
  defaults: FSTAB,
  auto: FSTAB,
  noauto: FSTAB,
  nofail: FSTAB,
  users: FSTAB,
  owner: FSTAB,
  group: FSTAB,
  _netdev: FSTAB,
  udp: 'over UDP an NFS share can damage what is written; use TCP',
}

/** Why an option is not allowed, for people; `null` when it is. What was given is not repeated: it may hold a password. */
export function mountOptionIssue(fileSystem: 'nfs' | 'cifs', option: string): string | null {
  const [name = '', ...rest] = option.split('=')
  const value = rest.length === 0 ? null : rest.join('=')
  const refused = Object.hasOwn(refusals, name) ? refusals[name] : undefined
  if (refused !== undefined) return `"${name}" is not allowed: ${refused}`
  const shapes = allowed[fileSystem]
  const shape = Object.hasOwn(shapes, name) ? shapes[name] : undefined
  if (shape === undefined) {
    return `is none of the options that may be given for ${fileSystem}, each without spaces and commas: ${Object.keys(shapes).join(', ')}`
  }
  if (shape === null) return value === null ? null : `"${name}" takes no value`
  if (value === null) return `"${name}" needs a value`
  return shape.test(value) ? null : `"${name}" has a value that is not allowed`
}

/** Options that say the same thing, of which only one may be given. */
const groups = [
  ['ro', 'rw'],
  ['soft', 'softerr'],
  ['lock', 'nolock'],
  ['vers', 'nfsvers'],
  ['ac', 'noac'],
  ['rdirplus', 'nordirplus'],
  ['resvport', 'noresvport'],
  ['serverino', 'noserverino'],
  ['noatime', 'relatime'],
]

/** The index of an option that repeats or contradicts an earlier one, or `null`. */
export function contradictionIn(options: readonly string[]): number | null {
  const seen = new Set<string>()
  for (const [index, option] of options.entries()) {
    const name = option.split('=')[0] ?? ''
    const subject = groups.find((group) => group.includes(name))?.[0] ?? name
    if (seen.has(subject)) return index
    seen.add(subject)
  }
  return null
}
