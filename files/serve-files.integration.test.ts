import { writeFile } from 'node:fs/promises'
import { get } from 'node:https'
import { join } from 'node:path'
import { once } from 'node:events'
import { expect, it, onTestFinished } from 'vitest'
import { serveFiles, volume } from '../test/served-files.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { isLoopback, makeCertificate, reachableHost } from './certificate.ts'

it('speaks plainly on loopback only', async () => {
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', 'localhost']) expect(isLoopback(host)).toBe(true)
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '128.0.0.1', '127.0.0.1.example.org', 'mover'])
    expect(isLoopback(host)).toBe(false)
  expect(reachableHost('10.0.0.1')).toBe('10.0.0.1')
  expect(reachableHost('::')).not.toContain(':')
  const served = await serveFiles([{ volume: volume('disk'), folder: await temporaryFolder() }])
  onTestFinished(() => served.close())
  expect(served.server).toMatchObject({ url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/), certificate: null })
})

it('is reached by TLS on any other address, by who knows its certificate', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'a'), 'secret')
  const served = await serveFiles([{ volume: volume('disk'), folder }], { host: '0.0.0.0' })
  onTestFinished(() => served.close())
  expect(served.server.url).toMatch(/^https:\/\/[^:]+:\d+$/)
  expect((await served.ask('download?path=/a')).body.toString()).toBe('secret')
  const other = await makeCertificate(new URL(served.server.url).hostname)
  for (const ca of [undefined, other.certificate]) {
    const asked = get(`${served.server.url}/mounts/x/files`, { ...(ca !== undefined && { ca }) })
    const [error] = (await once(asked, 'error')) as [Error & { code: string }]
    expect(error.code).toMatch(/SELF_SIGNED|UNABLE_TO_VERIFY|SIGNATURE/)
  }
})

it('ends with what runs, twice if need be', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'a'), Buffer.alloc(64 * 1024 * 1024))
  const served = await serveFiles([{ volume: volume('disk'), folder }])
  const answer = await served.open('download?path=/a')
  const broken = once(answer, 'error')
  await served.close()
  expect(await broken).toMatchObject([{ message: 'aborted' }])
  await served.close()
})
