/** One locker at a time in a repository: a lock that is extended must not meet its own removal. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../domain/errors.ts'
import type { Folder } from './folders.ts'
import { errnoOf } from '../domain/system-errno.ts'

const PATIENCE_MS = 15_000
const POLL_MS = 25

/** A socket in the abstract namespace: the kernel gives it to one process, and takes it back when that ends, however it ends. */
export async function exclusively<T>(root: Folder, work: () => Promise<T>): Promise<T> {
  const name = `\0holdfast-locker-${root.device}-${root.inode}`
  for (const deadline = Date.now() + PATIENCE_MS; ;) {
    const server = createServer((connection) => connection.destroy())
    server.listen(name)
    try {
      await once(server, 'listening')
    } catch (error) {
      if (errnoOf(error) !== 'EADDRINUSE') throw error
      if (Date.now() > deadline) {
        throw new HoldfastError('LOCK_FAILED', `Another locker works in ${root.path} and does not end. It is tried again.`)
      }
      await delay(POLL_MS)
      continue
    }
    try {
      return await work()
    } finally {
      server.close()
    }
  }
}
