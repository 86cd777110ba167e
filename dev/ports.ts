/** TCP ports of this host: whether one is free, and who has it. */
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { readFile, readdir, readlink } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'
import { systemErrorCode } from './system-error.ts'

export interface PortNeed {
  host: string
  port: number
  /** What will listen there, for people: "the Temporal Web UI". */
  purpose: string
  /** The environment variable that chooses another port. */
  variable: string
}

/** `INVALID_REQUEST` when something listens there already: names it, where the system lets us see, and the variable to set. */
export async function requireFreePort(need: PortNeed): Promise<void> {
  try {
    await listenBriefly(need.port, need.host)
  } catch (cause) {
    throw new HoldfastError('INVALID_REQUEST', await explain(need, cause), { details: { port: need.port }, cause })
  }
}

/** A port of the loopback address that nobody uses now. */
export async function freePort(): Promise<number> {
  return listenBriefly(0, '127.0.0.1')
}

/** Whether something accepts connections on a loopback port now. */
export async function accepts(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port })
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

async function listenBriefly(port: number, host: string): Promise<number> {
  const server = createServer()
  server.listen({ port, host, exclusive: true })
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : port
}

async function explain({ host, port, purpose, variable }: PortNeed, cause: unknown): Promise<string> {
  const code = systemErrorCode(cause)
  const another = `set ${variable} to another port, for example ${variable}=${port < 55_000 ? port + 10_000 : port - 10_000}`
  if (code === 'EACCES') return `Port ${port} for ${purpose} needs more rights than we have: ${another}.`
  if (code !== 'EADDRINUSE') return `Cannot listen on ${host}:${port} for ${purpose} (${code}): ${another}.`
  const owner = await portOwner(port)
  const by = owner ? ` by ${owner.command} (pid ${owner.pid})` : ''
  return `Port ${port} for ${purpose} is in use${by}. Stop that, or ${another}.`
}

/** The process that listens on `port`, as far as we may look into other processes. */
export async function portOwner(port: number): Promise<{ pid: number; command: string } | undefined> {
  const inodes = await listeningSockets(port)
  if (inodes.size === 0) return undefined
  for (const name of await readdir('/proc')) {
    if (/^\d+$/.test(name) && (await holdsSocket(name, inodes))) {
      const command = await readFile(`/proc/${name}/comm`, 'utf8').catch(() => 'a process')
      return { pid: Number(name), command: command.trim() }
    }
  }
  return undefined
}

const STATE_LISTEN = '0A'

async function listeningSockets(port: number): Promise<Set<string>> {
  const tables = await Promise.all(['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8').catch(() => '')))
  const rows = tables.flatMap((table) => table.split('\n').map((line) => line.trim().split(/\s+/)))
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0')
  // Columns: slot, local address:port, remote, state, queues, timer, retransmits, uid, timeout, inode.
  const ours = rows.filter((row) => row[3] === STATE_LISTEN && row[1]?.endsWith(`:${hexPort}`))
  return new Set(ours.map((row) => `socket:[${row[9]}]`))
}

async function holdsSocket(pid: string, links: Set<string>): Promise<boolean> {
  // Processes of other users, and those that have just ended, cannot be read: they count as "not it".
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => [])
  const targets = await Promise.all(descriptors.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')))
  return targets.some((target) => links.has(target))
}
