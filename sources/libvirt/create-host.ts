/** The host of a connection's hypervisor. */
import type { LibvirtConnection } from './connection.ts'
import { localHost } from './host-local.ts'
import { sshHost } from './host-ssh.ts'
import type { HypervisorHost } from './host.ts'

/** Opens nothing. Sockets and key files go below `runFolder`, which belongs to this process. */
export function createHost(connection: LibvirtConnection, runFolder: string): HypervisorHost {
  const target = connection.sshTarget
  return target === null ? localHost() : sshHost(target, { runFolder, scratchFolder: connection.scratchFolder })
}
