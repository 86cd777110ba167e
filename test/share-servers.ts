/** A real NFS server and a real SMB server, on the loopback of a machine that is ours alone: see `shares-in-uml.ts`. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from 'node:net'
import type { JsonObject } from '../domain/errors.ts'
import { runTool, startTool, type RunningTool } from '../tools/run-tool.ts'

export interface ShareServer {
  type: 'nfs' | 'cifs'
  /** What a repository's configuration says about the share that can be written, about the one that cannot, and about none at all. */
  config(share: 'backups' | 'readonly' | 'missing'): JsonObject
  start(): Promise<void>
  /** At once, with all connections; the files stay. */
  stop(): Promise<void>
}

/** Of the account that may use the SMB shares. */
export const canary = 'canary, with "quotes" and \\'
/** On every Debian. */
export const account = 'backup'
/** Another one, with a password that this kernel's client sends wrongly when it makes a connection anew: its default character set is not UTF-8. */
export const foreigner = { username: 'games', password: 'canary, ünicode' }

const LIMIT = { timeoutMs: 30_000 }

/** Version 4 alone: older ones need a port mapper. `folder` lies on a tmpfs. */
export async function nfsServer(folder: string): Promise<ShareServer> {
  const exported = [
    ['', 'ro,crossmnt'],
    ['backups', 'rw'],
    ['readonly', 'ro'],
  ] as const
  // File systems of their own: what is exported below an export is otherwise seen as part of it.
  for (const [name] of exported) {
    await mkdir(join(folder, name), { recursive: true })
    await runTool('mount', ['-t', 'tmpfs', 'tmpfs', join(folder, name)], LIMIT)
  }
  let isFirst = true
  return {
    type: 'nfs',
    // Quick to notice a server that is gone, and still patient with a machine that does many things.
    config: (share) => ({ server: '127.0.0.1', export_path: `/${share}`, mount_options: ['vers=4.2', 'timeo=10', 'retrans=1'] }),
    async start() {
      if (isFirst) {
        // Clients that had locks may ask for them again this long after a start, the least that there is.
        for (const name of ['nfsv4leasetime', 'nfsv4gracetime']) await writeFile(`/proc/fs/nfsd/${name}`, '10\n')
        for (const [index, [name, options]] of exported.entries()) {
          const all = `${options},fsid=${index},no_root_squash,insecure,no_subtree_check`
          await runTool('exportfs', ['-o', all, `127.0.0.1:${join(folder, name)}`], LIMIT)
        }
        await runTool('rpc.mountd', ['-N', '3'], LIMIT)
      }
      isFirst = false
      await runTool('rpc.nfsd', ['-N', '3', '-U', '2'], LIMIT)
      // Nobody but us had locks, and whoever had them has given up.
      await writeFile('/proc/fs/nfsd/v4_end_grace', 'Y\n')
    },
    stop: async () => void (await runTool('rpc.nfsd', ['0'], LIMIT)),
  }
}

export async function smbServer(folder: string): Promise<ShareServer> {
  const state = join(folder, 'state')
  const settings = join(folder, 'smb.conf')
  for (const name of ['backups', 'readonly', 'state']) await mkdir(join(folder, name), { recursive: true })
  await writeFile(settings, smbSettings(folder, state))
  for (const { username, password } of [{ username: account, password: canary }, foreigner])
    await runTool('smbpasswd', ['-c', settings, '-a', '-s', username], { ...LIMIT, input: `${password}\n${password}\n` })
  let server: RunningTool | null = null
  return {
    type: 'cifs',
    config: (share) => ({
      server: '127.0.0.1',
      share_name: share,
      username: account,
      domain: 'WORKGROUP',
      mount_options: ['mfsymlinks', 'echo_interval=1'],
    }),
    async start() {
      server = startTool('smbd', ['--foreground', '--configfile', settings])
      await untilListening(445)
    },
    async stop() {
      if (server === null) return
      // Its own process group: a server of its own for each connection belongs to it.
      process.kill(-server.pid, 'SIGKILL')
      await server.exited
      server = null
    },
  }
}

function smbSettings(folder: string, state: string): string {
  const folders = ['private dir', 'state directory', 'cache directory', 'lock directory', 'pid directory', 'ncalrpc dir']
  const share = (name: string, readOnly: 'yes' | 'no'): string =>
    `[${name}]\npath = ${join(folder, name)}\nread only = ${readOnly}\nvalid users = ${account} ${foreigner.username}\nforce user = root\n`
  return `[global]
server role = standalone server
interfaces = lo
bind interfaces only = yes
smb ports = 445
disable netbios = yes
load printers = no
log file = ${join(state, 'log')}
${folders.map((name) => `${name} = ${state}`).join('\n')}
${share('backups', 'no')}${share('readonly', 'yes')}`
}

async function untilListening(port: number): Promise<void> {
  for (let attempts = 0; attempts < 200; attempts += 1) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false))
      socket.on('connect', () => socket.destroy())
    })
    if (isOpen) return
    await delay(50)
  }
  throw new Error(`nobody listens on port ${port}`)
}
