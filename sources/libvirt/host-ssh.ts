/** The hypervisor runs on a machine behind SSH. */
import { randomBytes } from 'node:crypto'
import { HoldfastError } from '../../domain/errors.ts'
import { qemuNbdArguments, SOCKET_PATH_MAX_BYTES } from '../../tools/qemu-nbd.ts'
import type { ToolResult } from '../../tools/run-tool.ts'
import { sshName } from '../../tools/ssh-errors.ts'
import { openSshTunnel } from '../../tools/ssh-tunnel.ts'
import { runSsh, type SshTarget } from '../../tools/ssh.ts'
import { unusableFolder, type HypervisorHost } from './host.ts'
import { sharedImageGraph } from './shared-image.ts'

/** For questions that only read a folder or a file's entry there; most of it is making the connection. */
const QUESTION_MS = 60_000
/** How our scripts say "there is no such thing". */
const ABSENT_EXIT = 3
const EXPORT_NAME = 'disk'
const CONNECTIONS_MAX = 16

/** Sockets of servers there go into `scratchFolder`. Errors as of `runSsh`, besides those of the contract. */
export function sshHost(
  target: SshTarget,
  { runFolder, scratchFolder }: { runFolder: string; scratchFolder: string },
): HypervisorHost {
  const run = (script: string, args: readonly string[], options: { timeoutMs?: number; signal?: AbortSignal | undefined } = {}) =>
    runSsh(target, { script, args }, { timeoutMs: QUESTION_MS, ...options, runFolder, allowExitCodes: [ABSENT_EXIT] })
  return {
    async freeBytes(folder) {
      const answer = await run(scripts.freeBytes, [folder])
      const [blocks, blockBytes] = answer.stdout.trim().split(' ').map(Number)
      if (answer.exitCode === ABSENT_EXIT) throw unusableFolder(folder, sshName(target))
      if (!Number.isSafeInteger(blocks) || !Number.isSafeInteger(blockBytes)) throw unreadable(target, 'stat')
      return Number(blocks) * Number(blockBytes)
    },
    async listFiles(folder, prefix) {
      const { stdout } = await run(scripts.listFiles, [folder, prefix])
      return stdout.split('\0').filter((name) => name !== '' && name.startsWith(prefix))
    },
    async removeFile(path) {
      await run('rm -f -- "$1"', [path])
    },
    async fingerprint(path) {
      const { stdout, exitCode } = await run(scripts.fingerprint, [path])
      return exitCode === ABSENT_EXIT ? null : stdout.trim()
    },
    async qemuImg(args, options) {
      const { timeoutMs, signal } = options
      const answer: ToolResult = await runSsh(target, { script: 'exec qemu-img "$@"', args }, { timeoutMs, signal, runFolder })
      return answer.stdout
    },
    reach: (remoteSocket, options) => openSshTunnel(target, { remoteSocket, ready: 'greeting' }, options),
    async serveImage(image, options) {
      const remoteSocket = `${scratchFolder}/${image.socketPrefix}-${randomBytes(2).toString('hex')}.nbd`
      if (Buffer.byteLength(remoteSocket) > SOCKET_PATH_MAX_BYTES)
        throw unusableFolder(scratchFolder, sshName(target), 'its path is too long for sockets')
      const server = { script: scripts.serve, args: [remoteSocket, ...serverArguments(image, remoteSocket)] }
      const tunnel = await openSshTunnel(target, { remoteSocket, ready: 'greeting', server }, options)
      return { path: tunnel.path, exportName: EXPORT_NAME, close: () => tunnel.close() }
    },
  }
}

function serverArguments(image: Parameters<HypervisorHost['serveImage']>[0], socketPath: string): string[] {
  return qemuNbdArguments({
    blockGraph: sharedImageGraph(image),
    socketPath,
    exportName: EXPORT_NAME,
    readOnly: true,
    connections: CONNECTIONS_MAX,
    cache: 'writeback',
    aio: 'threads',
    bitmap: image.bitmap ?? undefined,
  })
}

const scripts = {
  freeBytes: `[ -d "$1" ] && [ -w "$1" ] && [ -x "$1" ] || exit ${ABSENT_EXIT}
stat -f -c '%a %S' -- "$1"`,

  listFiles: `[ -d "$1" ] || exit 0
cd -- "$1" || exit 1
for name in "$2"*; do
  if [ -e "$name" ] || [ -L "$name" ]; then printf '%s\\0' "$name"; fi
done`,

  // Of a block device what the kernel has written to it, see `host-local.ts`.
  fingerprint: `[ -e "$1" ] || exit ${ABSENT_EXIT}
stat -L -c '%d %i %s %.9Y %.9Z' -- "$1" || exit 1
[ -b "$1" ] || exit 0
sync -- "$1" || exit 1
device=$(stat -L -c '%t:%T' -- "$1") || exit 1
read -r _ _ _ _ _ _ written _ _ _ _ _ _ discarded _ <"/sys/dev/block/$((0x\${device%:*})):$((0x\${device#*:}))/stat" || exit 1
echo "$written $discarded"`,

  // Our end of standard input is the server's life line: it closes when we say so, when the connection breaks and when we die.
  // The shell would give a background program an empty standard input, therefore the detour over 3.
  serve: `socket=$1
shift
umask 077
exec 3<&0
qemu-nbd "$@" </dev/null 3<&- &
server=$!
{ cat <&3 >/dev/null; kill "$server"; } 2>/dev/null &
watcher=$!
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
rm -f -- "$socket"
exit "$status"`,
}

function unreadable(target: SshTarget, program: string): HoldfastError {
  return new HoldfastError(
    'SOURCE_INVALID',
    `"${program}" on ${sshName(target)} answered in a form that we cannot read. Is it GNU coreutils?`,
    {
      details: { host: target.host, program },
    },
  )
}
