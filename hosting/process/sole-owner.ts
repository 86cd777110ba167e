/**
 * One process at a time works on a repository. A process that hangs in a call to a dead share survives SIGKILL until the share answers, and may still
 * write then: whoever comes next waits. As the locks of attempts, it is a socket in Linux's abstract namespace, which the kernel takes back with the last
 * process that holds it; here that is also every program that was started.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../../domain/errors.ts'
import { letProgramsHold } from '../../tools/run-tool.ts'

const POLL_MS = 50

/** Waits for as long as it takes. The lock ends with this process and its programs. */
export async function becomeSoleOwner(repositoryId: string): Promise<void> {
  const name = `\0holdfast-repository-${createHash('sha256').update(repositoryId).digest('hex')}`
  for (;;) {
    const server = await listening(name)
    if (server) {
      letProgramsHold(descriptorOf(server))
      return
    }
    await delay(POLL_MS)
  }
}

async function listening(name: string): Promise<Server | null> {
  const server = createServer((connection) => connection.destroy())
  server.listen(name)
  try {
    await once(server, 'listening')
    return server.unref()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') return null
    throw error
  }
}

/** Node does not show it in its documentation. */
function descriptorOf(server: Server): number {
  const handle: unknown = Reflect.get(server, '_handle')
  const descriptor: unknown = typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'fd') : undefined
  if (typeof descriptor === 'number' && descriptor > 2) return descriptor
  throw new HoldfastError('INTERNAL', 'The lock of a repository has no file descriptor in this version of Node.')
}
