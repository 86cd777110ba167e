/** `virsh`: libvirt's command line, because no maintained binding to Node exists. */
import { HoldfastError, type ErrorCode } from '../domain/errors.ts'
import { runTool } from './run-tool.ts'

export interface VirshOptions {
  /** A checked connection URI; without credentials in it. */
  uri: string
  /** What messages call it, where `uri` is the end of a tunnel. */
  shownUri?: string | undefined
  /** Default 60 s. libvirt itself waits 30 s for another job on the domain. */
  timeoutMs?: number | undefined
  signal?: AbortSignal | undefined
}

const VIRSH_TIMEOUT_MS = 60_000

/**
 * Runs one `virsh` command and returns its standard output. Domains are best named by UUID: names may begin with a dash. The program's words decide the code, see {@link virshError}.
 * A command that was under way when its client was killed may still take effect: ask for the state before doing it again.
 */
export async function virsh(command: readonly string[], options: VirshOptions): Promise<string> {
  const { uri, shownUri = uri, timeoutMs = VIRSH_TIMEOUT_MS, signal } = options
  try {
    const { stdout } = await runTool('virsh', ['--quiet', '--connect', uri, ...command], { timeoutMs, signal })
    return stdout
  } catch (error) {
    throw virshError(error, command[0] ?? '', shownUri)
  }
}

/** What libvirt, and the ssh that it starts, say, as patterns. English: `run-tool` sets the locale. */
const meanings: readonly [RegExp, ErrorCode, string][] = [
  [
    /permission denied|authentication failed|host key verification failed|polkit/i,
    'SOURCE_AUTHENTICATION_FAILED',
    'Check the user, the key and the known host key of the connection.',
  ],
  [
    /failed to get domain|domain not found|no domain with matching/i,
    'SOURCE_NOT_FOUND',
    'Discover the VMs of this source again.',
  ],
  [
    /cannot acquire state change lock|another job|job is still active|modifying domain/i,
    'SOURCE_BUSY',
    'Another operation holds this VM.',
  ],
  [
    /failed to connect to the hypervisor|cannot recv data|connection reset|end of file while reading|client socket is closed|disconnected from|internal error: client/i,
    'SOURCE_UNAVAILABLE',
    'Check that libvirt runs there and that the URI is right.',
  ],
]

/** `SOURCE_*` where the words are known, else the tool's own error. A client that hangs is a platform that does not answer. */
export function virshError(error: unknown, command: string, uri: string): unknown {
  if (!(error instanceof HoldfastError)) return error
  const details = { ...error.details, command, uri }
  if (error.code === 'TOOL_TIMEOUT') {
    return new HoldfastError('SOURCE_UNAVAILABLE', `libvirt at ${uri} did not answer "${command}" in time.`, {
      details,
      cause: error,
    })
  }
  if (error.code !== 'TOOL_FAILED') return error
  const known = meanings.find(([words]) => words.test(error.message))
  if (!known) return error
  const [, code, advice] = known
  return new HoldfastError(code, `libvirt at ${uri} refused "${command}": ${lastWords(error.message)} ${advice}`, {
    details,
    cause: error,
  })
}

/** The last `error:` line: the ones before it say the same in general. */
function lastWords(message: string): string {
  const lines = message
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  const said = lines.findLast((line) => line.startsWith('error:')) ?? lines.at(-1) ?? ''
  return said.replace(/^error:\s*/, '').replace(/\.?$/, '.')
}
