/** A mount behind its file service in another process, and a client that asks like the API. */
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { HoldfastError } from '../../domain/errors.ts'
import { loadFilesKey, signRequest } from '../../security/signed-requests.ts'
import { startTool, unexpectedExit } from '../../tools/run-tool.ts'
import { stepCommand } from '../runs.ts'
import { BENCH_MOUNT_ID } from '../steps/step-input.ts'
import type { MountStep } from '../steps/step-input.ts'

export interface ServedMount {
  /** Of the process that serves; the programs of the mount are its children. */
  pid: number
  /** Reads the answer to its end and keeps nothing of it. Returns its bytes. */
  get(resource: string, query: Record<string, string>): Promise<number>
  stop(): Promise<void>
}

const STOP_GRACE_MS = 20_000

/** Resolves when the disk is mounted and its files are served. */
export async function serveMount(step: MountStep): Promise<ServedMount> {
  const key = await loadFilesKey(step.cacheFolder)
  const printed = Promise.withResolvers<string>()
  const onOutput = (text: string): void => {
    const url = /^http:\S+/m.exec(text)
    if (url) printed.resolve(url[0])
    else process.stderr.write(text)
  }
  const tool = startTool('node', stepCommand('serve-mount', step), { stdin: 'held', onOutput })
  const gone = unexpectedExit(tool).then((error) => Promise.reject(error))
  gone.catch(() => undefined)
  const url = await Promise.race([printed.promise, gone])
  return {
    pid: tool.pid,
    get: (resource, query) => {
      const target = `/mounts/${BENCH_MOUNT_ID}/${resource}?${new URLSearchParams(query).toString()}`
      return download(`${url}${target}`, signRequest(key, { method: 'GET', port: Number(new URL(url).port), target }, Date.now()))
    },
    async stop() {
      tool.endInput()
      const killer = setTimeout(() => void tool.stop(0), STOP_GRACE_MS)
      await tool.exited
      clearTimeout(killer)
    },
  }
}

async function download(url: string, authorization: string): Promise<number> {
  const answered = Promise.withResolvers<IncomingMessage>()
  request(url, { headers: { authorization } }, answered.resolve).once('error', answered.reject).end()
  const answer = await answered.promise
  let bytes = 0
  for await (const piece of answer) bytes += Buffer.isBuffer(piece) ? piece.length : 0
  if (answer.statusCode !== 200) throw new HoldfastError('INTERNAL', `The file service answered ${answer.statusCode} to ${url}.`)
  return bytes
}
