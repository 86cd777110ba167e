/** Why the kernel in its sandbox did not start, from what its programs said. */
import { HoldfastError } from '../../domain/errors.ts'
import type { RunningTool } from '../../tools/run-tool.ts'

/** What a host lacks is nothing that trying again mends. */
export function startFailure(kernel: RunningTool, error: unknown): unknown {
  if (!(error instanceof HoldfastError)) return error
  const said = kernel.stderrTail().trim().slice(-1_000)
  const missing = /(?:nsenter: failed to execute|nice:|prlimit: failed to execute) [‘']?(\S+?)[’']?: No such file/.exec(said)?.[1]
  if (missing !== undefined) {
    const message = `The program "${missing}" is not installed, which reading the files of backups needs. Install it (Debian: bubblewrap, util-linux).`
    return new HoldfastError('TOOL_MISSING', message, { details: { program: missing }, cause: error })
  }
  if (said.includes('bwrap: ')) {
    const message =
      'The reader of file systems cannot be shut in: bubblewrap may not make namespaces here. Run the mover as root, in a container with the capability SYS_ADMIN.'
    return new HoldfastError('MOUNT_DRIVER_UNAVAILABLE', message, { details: { said }, cause: error })
  }
  return new HoldfastError(error.code === 'TOOL_TIMEOUT' ? 'TOOL_TIMEOUT' : 'TOOL_FAILED', error.message, {
    details: { ...error.details, console: said },
    cause: error,
  })
}
