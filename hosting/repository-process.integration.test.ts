/** The process of a repository as whoever calls it sees it: in whose name it is heard, and what a call leaves behind. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { getEventListeners } from 'node:events'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { serveImage } from '../disks/serve.ts'
import { HoldfastError } from '../domain/errors.ts'
import { MIB, noise, transferRequest, writeImage } from '../test/disk-backups.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { RepositoryProcess } from './repository-process.ts'

requireTool('qemu-nbd')

const caller = new AsyncLocalStorage<string>()

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let working: RepositoryProcess
beforeAll(async () => {
  folder = await createTemporaryFolder()
  working = caller.run('who started it', () => new RepositoryProcess(`repo-called-${process.pid}`, `${folder.path}/repository`))
  await working.call('initialize', [])
})
afterAll(async () => {
  working.kill(new HoldfastError('CANCELLED', 'The test is over.'))
  await working.ended
  await folder.remove()
})

test('progress is heard by whoever called, not by whoever happened to start the process', async () => {
  const sizeBytes = 2 * MIB
  await writeImage(`${folder.path}/disk.raw`, sizeBytes, [[0, noise(sizeBytes, 1)]])
  const served = await serveImage(`${folder.path}/disk.raw`, 'raw', { runFolder: `${folder.path}/run` })
  try {
    const source = { endpoint: served.endpoint, sizeBytes, changes: { type: 'compare-hashes' as const } }
    const change = { rateLimitBytesPerSecond: 2 * MIB }
    const request = await transferRequest({ folder: folder.path, backupId: 'backup-called', source, change })
    const heardBy = new Set<string | undefined>()
    const onProgress = (): void => void heardBy.add(caller.getStore())
    await caller.run('who called', () => working.call('transferDisk', [request], { onProgress }))
    expect([...heardBy]).toEqual(['who called'])
  } finally {
    await served.close()
  }
})

test('a call that is over leaves nothing that listens', async () => {
  const listen = vi.spyOn(EventTarget.prototype, 'addEventListener')
  const cancelling = new AbortController()
  await working.call('readIdentity', [], { signal: cancelling.signal })
  const heard = listen.mock.contexts.filter((target) => target instanceof AbortSignal)
  listen.mockRestore()
  expect(heard.length).toBeGreaterThanOrEqual(2)
  expect(heard.flatMap((signal) => getEventListeners(signal, 'abort'))).toEqual([])
})
