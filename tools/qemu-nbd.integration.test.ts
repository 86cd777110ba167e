import { createServer, type Socket } from 'node:net'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { startQemuNbd, type QemuNbdOptions } from './qemu-nbd.ts'

requireTool('qemu-nbd')

/** Something that accepts on the socket's path and never says a word. Counts its clients. */
async function silentServer(folder: string): Promise<{ options: QemuNbdOptions; greeted: Promise<void> }> {
  const socketPath = join(folder, 'nbd.sock')
  const image = join(folder, 'disk.raw')
  await writeFile(image, Buffer.alloc(512))
  const clients: Socket[] = []
  const { promise: greeted, resolve } = Promise.withResolvers<void>()
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
  const blockGraph = { filename: image, format: 'raw' }
  return {
    options: { blockGraph, socketPath, exportName: 'disk', readOnly: true, connections: 4, cache: 'writeback', aio: 'threads' },
    greeted,
  }
}

it('does not wait for a greeting once its start is aborted', { timeout: 10_000 }, async () => {
  const { options, greeted } = await silentServer(await temporaryFolder())
  const controller = new AbortController()
  const reason = new Error('enough')
  const starting = startQemuNbd({ ...options, signal: controller.signal })
  void greeted.then(() => controller.abort(reason))
  await expect(starting).rejects.toBe(reason)
})

it('does not wait for a greeting of a server that has ended', { timeout: 10_000 }, async () => {
  const folder = await temporaryFolder()
  const { options } = await silentServer(folder)
  await rename(join(folder, 'disk.raw'), join(folder, 'elsewhere.raw'))
  await expect(startQemuNbd(options)).rejects.toMatchObject({ code: 'TOOL_FAILED' })
})
