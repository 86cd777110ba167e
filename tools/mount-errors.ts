/** What the words of `mount.nfs`, `mount.cifs` and `umount` mean. */
import { HoldfastError, type ErrorCode } from '../domain/errors.ts'

/** What is mounted, for messages. */
export interface MountSubject {
  fileSystem: 'nfs' | 'cifs'
  source: string
}

const protocols = { nfs: 'NFS', cifs: 'SMB' }
const packages = { nfs: 'nfs-common', cifs: 'cifs-utils' }

type Meaning = readonly [words: RegExp, code: ErrorCode, reason: string, advice: string]

const NETWORK = 'Check that the server runs, that its name is right and that no firewall is in between.'
const VERSIONS = 'Give another one of the options "vers" and "sec", or turn the newer one on in the server.'

const meanings: readonly Meaning[] = [
  [
    /access denied by server/,
    'REPO_AUTHENTICATION_FAILED',
    'access denied by the server',
    'Let this host use the export, in the list of clients on the server.',
  ],
  [
    /mount error\((?:13|12[6-9])\)|STATUS_LOGON_FAILURE/,
    'REPO_AUTHENTICATION_FAILED',
    'access denied by the server',
    'Check user name, password and domain, and that this user may use the share.',
  ],
  [
    /Failed to resolve server|could not resolve address|Name or service not known|Temporary failure in name resolution/,
    'CONNECTION_FAILED',
    'unknown host name',
    'Check the name, and that this host can resolve it.',
  ],
  [/Connection refused|mount error\(111\)/, 'CONNECTION_FAILED', 'connection refused', NETWORK],
  [/timed out|Operation now in progress|mount error\((?:110|115)\)/i, 'CONNECTION_FAILED', 'connection timeout', NETWORK],
  [
    /No route to host|Network is unreachable|Host is down|mount error\((?:11[23]|101)\)/,
    'CONNECTION_FAILED',
    'no way to the server',
    NETWORK,
  ],
  [
    /Connection reset|Broken pipe|mount error\((?:104|32|5|11)\)/,
    'CONNECTION_FAILED',
    'the server broke the connection off',
    NETWORK,
  ],
  [
    /No such file or directory|mount error\((?:2|6)\)/,
    'CONNECTION_FAILED',
    'the server has no such share',
    'Check its name, upper and lower case too, and what the server exports.',
  ],
  [
    /rpc\.statd is not running/,
    'REPO_INVALID',
    'NFS 3 needs rpc.statd for its locks',
    'Start rpc.statd, add the option "nolock", or use NFS 4.',
  ],
  [
    /must be root|only root can|Operation not permitted|mount error\(1\)|Permission denied/,
    'REPO_INVALID',
    'this host does not allow it',
    'Only root may mount: run the mover as root, or mount the share yourself and register its folder as "local".',
  ],
  [
    /unknown filesystem type|No such device|not supported by the system|mount error\(19\)/,
    'REPO_INVALID',
    'the kernel of this host cannot mount such shares',
    'Use a kernel that can, or mount the share elsewhere.',
  ],
  [
    /version or transport protocol is not supported|Protocol not supported|mount error\((?:93|95)\)/,
    'REPO_INVALID',
    'the server does not speak this version',
    VERSIONS,
  ],
  [
    /incorrect mount option|Invalid argument|mount error\(22\)/,
    'REPO_INVALID',
    'a mount option was refused',
    'Check "mount_options".',
  ],
]

/** Failures of mounting: `CONNECTION_FAILED`, `REPO_AUTHENTICATION_FAILED`, `REPO_INVALID`, `TOOL_MISSING`. Others stay what they are. */
export function mountError(error: unknown, subject: MountSubject): unknown {
  if (!(error instanceof HoldfastError)) return error
  const { fileSystem, source } = subject
  const details = { ...error.details, source }
  const failed = `Failed to connect to ${protocols[fileSystem]} server (${source})`
  if (error.code === 'TOOL_TIMEOUT') {
    return new HoldfastError('CONNECTION_FAILED', `${failed}: connection timeout. ${NETWORK}`, { details, cause: error })
  }
  if (error.code === 'TOOL_MISSING') {
    const message = `The program "mount.${fileSystem}" is not installed on this host. Install Debian's package "${packages[fileSystem]}".`
    return new HoldfastError('TOOL_MISSING', message, { details, cause: error })
  }
  if (error.code !== 'TOOL_FAILED') return error
  const found = meanings.find(([words]) => words.test(error.message))
  if (!found) return new HoldfastError('CONNECTION_FAILED', `${failed}: ${error.message}`, { details, cause: error })
  const [, code, reason, advice] = found
  return new HoldfastError(code, `${failed}: ${reason}. ${advice}`, { details, cause: error })
}

/** `REPO_BUSY` while somebody uses it, `REPO_UNAVAILABLE` when it took too long. Others stay what they are. */
export function unmountError(error: unknown, mountPoint: string): unknown {
  if (!(error instanceof HoldfastError)) return error
  const details = { ...error.details, mount_point: mountPoint }
  if (error.code === 'TOOL_TIMEOUT') {
    return new HoldfastError('REPO_UNAVAILABLE', `What is mounted at ${mountPoint} does not answer, so it cannot be unmounted.`, {
      details,
      cause: error,
    })
  }
  if (error.code !== 'TOOL_FAILED' || !/busy/.test(error.message)) return error
  return new HoldfastError('REPO_BUSY', `${mountPoint} is in use: unmount it once nobody has files or folders of it open.`, {
    details,
    cause: error,
  })
}
