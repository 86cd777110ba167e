import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { startQemuNbd, type QemuNbdOptions } from './qemu-nbd.ts'

requireTool('qemu-nbd')

/** Something that accepts on a socket and never says a word. Resolves once it listens; `asked`, once it has a client. */
async function silentServer(socketPath: string): Promise<{ asked: Promise<void> }> {
  const clients: Socket[] = []
  const { promise: asked, resolve } = Promise.withResolvers<void>()
  const server = createServer((client) => {
    clients.push(client)
    client.on('error', () => undefined)
    resolve()
  })
  await new Promise<void>((listening) => server.listen(socketPath, listening))
  onTestFinished(() => {
    for (const client of clients) client.destroy()
    server.close()
  })
  return { asked }
}

function serverOf(folder: string, blockGraph: QemuNbdOptions['blockGraph']): QemuNbdOptions {
  const socketPath = join(folder, 'nbd.sock')
  return { blockGraph, socketPath, exportName: 'disk', readOnly: true, connections: 4, cache: 'writeback', aio: 'threads' }
}

it('does not wait for a greeting once its start is aborted', { timeout: 25_000 }, async () => {
  const folder = await temporaryFolder()
  const upstreamPath = join(folder, 'upstream.sock')
  // qemu-nbd listens before it opens its disk, which is one that never answers: it accepts, and says nothing.
  const { asked } = await silentServer(upstreamPath)
  const disk = { driver: 'nbd', server: { type: 'unix', path: upstreamPath }, export: '' }
  const controller = new AbortController()
  const reason = new Error('enough')
  const starting = startQemuNbd({ ...serverOf(folder, disk), signal: controller.signal })
  void asked.then(() => controller.abort(reason))
  // Within the ten seconds after which a server that hears no SIGTERM, as while it opens its disk, is killed.
  await expect(starting).rejects.toBe(reason)
})

it('does not wait for a greeting of a server that has ended', { timeout: 10_000 }, async () => {
  const folder = await temporaryFolder()
  // Whoever connects before qemu-nbd takes the path over waits for this one.
  await silentServer(join(folder, 'nbd.sock'))
  const absent = { filename: join(folder, 'absent.raw'), format: 'raw' }
  await expect(startQemuNbd(serverOf(folder, absent))).rejects.toMatchObject({ code: 'TOOL_FAILED' })
})
