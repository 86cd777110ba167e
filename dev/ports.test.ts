import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { accepts, freePort, portOwner, requireFreePort } from './ports.ts'

async function listen(host: string): Promise<number> {
  const server = createServer().listen(0, host)
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const address = server.address()
  return typeof address === 'object' && address ? address.port : 0
}

const need = { host: '127.0.0.1', purpose: 'the API', variable: 'HOLDFAST_API_PORT' }

test('a free port is accepted, and free afterwards', async () => {
  const port = await freePort()
  await requireFreePort({ ...need, port })
  await requireFreePort({ ...need, port })
  expect(await accepts(port)).toBe(false)
})

test.each(['127.0.0.1', '0.0.0.0', '::'])(
  'a port that someone has on %s is refused: who has it, and which variable to set',
  async (host) => {
    const port = await listen(host)
    expect(await accepts(port)).toBe(true)
    const pattern = new RegExp(`Port ${port} for the API is in use by .+ \\(pid ${process.pid}\\)\\..*set HOLDFAST_API_PORT`)
    await expect(requireFreePort({ ...need, port })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: expect.stringMatching(pattern),
      details: { port },
    })
  },
)

test('an address that is not ours is named as such', async () => {
  const refused = requireFreePort({ ...need, host: '192.0.2.1', port: 4_000 })
  await expect(refused).rejects.toThrow('Cannot listen on 192.0.2.1:4000 for the API (EADDRNOTAVAIL)')
})

test('nobody owns a free port', async () => {
  expect(await portOwner(await freePort())).toBeUndefined()
})
