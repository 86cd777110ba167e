/**
 * One Holdfast per state folder.
 *
 * The lock is a listening socket in Linux's abstract namespace, named after the folder: the kernel gives it to one process, and takes
 * it back when that process ends, however it ends. So there is no lock file that could be stale, and no pid that could be someone
 * else's by now. Whoever finds it taken asks the holder who it is.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, realpath } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { Server } from 'node:net'
import { z } from 'zod'
import { HoldfastError } from '../domain/errors.ts'
import { systemErrorCode } from './system-error.ts'

const stateHolder = z.object({ pid: z.number(), url: z.string() })

/** The process that has the state, and where its API is. */
export type StateHolder = z.infer<typeof stateHolder>

export interface StateLock {
  release(): Promise<void>
}

const ASK_TIMEOUT_MS = 2_000

/** Takes the state folder `home`, which is created if need be. `INVALID_REQUEST` names the process that has it. */
export async function lockState(home: string, holder: StateHolder): Promise<StateLock> {
  await mkdir(home, { recursive: true, mode: 0o700 })
  const path = `\0holdfast-state-${createHash('sha256')
    .update(await realpath(home))
    .digest('hex')
    .slice(0, 32)}`
  const server = await listen(path, holder)
  if (!server) throw inUse(home, await askHolder(path))
  let released: Promise<unknown> | undefined
  return {
    async release() {
      released ??= new Promise((resolve) => server.close(resolve))
      await released
    },
  }
}

async function listen(path: string, holder: StateHolder): Promise<Server | undefined> {
  const server = createServer((socket) => {
    // A peer that hangs up early is no concern of ours.
    socket.on('error', () => socket.destroy())
    socket.end(JSON.stringify(holder))
  })
  // The lock alone keeps no process alive.
  server.unref()
  server.listen({ path })
  try {
    await once(server, 'listening')
    return server
  } catch (error) {
    if (systemErrorCode(error) === 'EADDRINUSE') return undefined
    throw error
  }
}

async function askHolder(path: string): Promise<StateHolder | undefined> {
  const socket = connect({ path })
  socket.setTimeout(ASK_TIMEOUT_MS, () => socket.destroy(new Error('no answer')))
  socket.setEncoding('utf8')
  try {
    let answer = ''
    for await (const text of socket) answer += String(text)
    return stateHolder.parse(JSON.parse(answer))
  } catch {
    // It ended between our two looks, or it hangs: the refusal stands, without its name.
    return undefined
  }
}

function inUse(home: string, holder: StateHolder | undefined): HoldfastError {
  const who = holder ? `pid ${holder.pid}, ${holder.url}` : 'it does not say which process'
  return new HoldfastError(
    'INVALID_REQUEST',
    `Holdfast already runs on ${home} (${who}). Use that one, stop it with Ctrl-C${holder ? ` or "kill ${holder.pid}"` : ''}, or set HOLDFAST_HOME to another folder.`,
    { details: holder ? { pid: holder.pid, url: holder.url } : {} },
  )
}
