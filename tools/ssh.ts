/** OpenSSH's client: runs a script on another machine. Nothing of the user's own configuration counts, except whom they trust. */
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runTool, type ToolResult } from './run-tool.ts'
import { shellCommand } from './shell-quote.ts'
import { sshError } from './ssh-errors.ts'

export interface SshTarget {
  host: string
  /** `null`: ssh's own default. */
  user: string | null
  port: number | null
  /** The unencrypted private key; a function, so that no log or dump of this object shows it. `null`: the keys of the user we run as. */
  privateKey: (() => string) | null
  /** `known_hosts` lines; `null`: the files of the user we run as, and the system's. */
  knownHosts: string | null
}

export interface SshOptions {
  timeoutMs: number
  /** The key lies in a file of our own below it, only as long as it takes. */
  runFolder: string
  signal?: AbortSignal | undefined
  /** Exit codes of the script besides 0 that are answers. */
  allowExitCodes?: readonly number[] | undefined
}

const CONNECT_TIMEOUT_SECONDS = 15
/** A dead line is noticed after three unanswered questions. */
const ALIVE_INTERVAL_SECONDS = 10

/**
 * Runs a POSIX `sh` script there with `args` as `$1`, `$2` … and returns what it printed. `SOURCE_AUTHENTICATION_FAILED` (key, user or host key),
 * `SOURCE_UNAVAILABLE` (no connection, or no answer in time), else `TOOL_FAILED` with the script's words. What the script does may
 * still take effect after a failure.
 */
export async function runSsh(
  target: SshTarget,
  command: { script: string; args: readonly string[] },
  options: SshOptions,
): Promise<ToolResult> {
  const files = await writeSshFiles(target, options.runFolder)
  try {
    const { timeoutMs, signal, allowExitCodes } = options
    const args = [...sshArguments(target, files), '--', target.host, remoteCommand(command)]
    return await runTool('ssh', args, { timeoutMs, signal, allowExitCodes })
  } catch (error) {
    throw sshError(error, target)
  } finally {
    await files.remove()
  }
}

/** Messages in English, because some of them are read by code. */
export function remoteCommand({ script, args }: { script: string; args: readonly string[] }): string {
  return shellCommand(`LC_ALL=C; export LC_ALL\n${script}`, args)
}

export interface SshFiles {
  keyFile: string | null
  knownHostsFile: string | null
  /** Idempotent. */
  remove(): Promise<void>
}

/** What ssh can only be told in files. They are needed until the connection stands. */
export async function writeSshFiles(target: SshTarget, runFolder: string): Promise<SshFiles> {
  const folder = join(runFolder, `ssh-${randomBytes(5).toString('hex')}`)
  const write = async (name: string, content: string): Promise<string> => {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    // OpenSSH refuses a key without its last newline, which forms like to lose.
    await writeFile(join(folder, name), `${content.replaceAll('\r\n', '\n').trimEnd()}\n`, { mode: 0o600 })
    return join(folder, name)
  }
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true })
  try {
    const keyFile = target.privateKey && (await write('key', target.privateKey()))
    const knownHostsFile = target.knownHosts === null ? null : await write('known_hosts', target.knownHosts)
    return { keyFile, knownHostsFile, remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/** Options of every connection, without the destination. */
export function sshArguments(target: SshTarget, files: SshFiles): string[] {
  const settings = {
    BatchMode: 'yes',
    ConnectTimeout: String(CONNECT_TIMEOUT_SECONDS),
    ConnectionAttempts: '1',
    ServerAliveInterval: String(ALIVE_INTERVAL_SECONDS),
    ServerAliveCountMax: '3',
    StrictHostKeyChecking: 'yes',
    UpdateHostKeys: 'no',
    PreferredAuthentications: 'publickey',
    IdentityAgent: 'none',
    ControlPath: 'none',
    ...(files.keyFile === null ? {} : { IdentitiesOnly: 'yes', IdentityFile: optionValue(files.keyFile) }),
    ...(files.knownHostsFile === null
      ? {}
      : { UserKnownHostsFile: optionValue(files.knownHostsFile), GlobalKnownHostsFile: '/dev/null' }),
  }
  return [
    '-F',
    'none',
    '-T',
    '-a',
    '-x',
    ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]),
    ...(target.user === null ? [] : ['-l', target.user]),
    ...(target.port === null ? [] : ['-p', String(target.port)]),
  ]
}

/** As one word of ssh's option language, which expands `%`. */
function optionValue(path: string): string {
  return `"${path.replaceAll('%', '%%').replaceAll(/["\\]/g, '\\$&')}"`
}
