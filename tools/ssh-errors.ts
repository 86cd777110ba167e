/** What ssh's words mean. */
import { HoldfastError, type ErrorCode } from '../domain/errors.ts'
import type { SshTarget } from './ssh.ts'

/** ssh's own exit code; every other one is the remote program's. */
const SSH_FAILED_EXIT = 255

const meanings: readonly [RegExp, ErrorCode, string][] = [
  [
    /Load key ".*": /,
    'SOURCE_AUTHENTICATION_FAILED',
    'The private key cannot be used: give it whole, without a passphrase, in the OpenSSH or PEM form.',
  ],
  [
    /Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|host key is known for/,
    'SOURCE_AUTHENTICATION_FAILED',
    'The host key is not the one that is known. Compare it on the host itself, then put its line (ssh-keyscan) into "ssh_known_hosts" of the source connection.',
  ],
  [
    /Permission denied \(|Too many authentication failures|No supported authentication methods/,
    'SOURCE_AUTHENTICATION_FAILED',
    'Check the user, and that the key is in their authorized_keys.',
  ],
  [
    // sshd says the same for a socket that is not there as for one that it may not open.
    /open failed: /,
    'SOURCE_UNAVAILABLE',
    'Either nobody serves that socket any more, or the SSH server forbids it: its sshd_config must have AllowStreamLocalForwarding.',
  ],
]

/** `user@host:port` for people. */
export function sshName(target: SshTarget): string {
  const host = target.host.includes(':') ? `[${target.host}]` : target.host
  return `${target.user === null ? '' : `${target.user}@`}${host}${target.port === null ? '' : `:${target.port}`}`
}

/**
 * Failures of the connection as `SOURCE_AUTHENTICATION_FAILED` or `SOURCE_UNAVAILABLE`; a program that the host lacks as `SOURCE_INVALID`. Other failures of the remote program stay what they are.
 */
export function sshError(error: unknown, target: SshTarget): unknown {
  if (!(error instanceof HoldfastError)) return error
  const name = sshName(target)
  const details = { ...error.details, host: target.host }
  if (error.code === 'TOOL_TIMEOUT')
    return new HoldfastError('SOURCE_UNAVAILABLE', `${name} did not answer over SSH in time.`, { details, cause: error })
  if (error.code !== 'TOOL_FAILED') return error
  const missing = /(?:^|\n).*?([\w.-]+): (?:command )?not found/.exec(error.message)?.[1]
  if (error.details['exitCode'] === 127 && missing !== undefined)
    return new HoldfastError('SOURCE_INVALID', `The program "${missing}" is not installed on ${name}. Install it there.`, {
      details,
      cause: error,
    })
  if (error.details['exitCode'] !== SSH_FAILED_EXIT) return error
  return connectionError(error.message, target, { details, cause: error })
}

/** The same for what ssh said while it went on running. */
export function connectionError(
  said: string,
  target: SshTarget,
  options: { details?: HoldfastError['details']; cause?: unknown } = {},
): HoldfastError {
  const [, code, advice] = meanings.find(([words]) => words.test(said)) ?? [
    null,
    'SOURCE_UNAVAILABLE' as const,
    'Check that the host is up and that SSH reaches it.',
  ]
  return new HoldfastError(code, `SSH to ${sshName(target)} failed: ${lastLine(said)} ${advice}`, {
    details: { host: target.host, ...options.details },
    cause: options.cause,
  })
}

function lastLine(said: string): string {
  const lines = said
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  return (lines.at(-1) ?? 'the connection ended').replace(/\.?$/, '.')
}
