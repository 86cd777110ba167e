import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it, onTestFinished } from 'vitest'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'
import { runInThread } from './disk-thread.ts'

async function threadOf(folder: string, body: string): Promise<URL> {
  const script = join(folder, 'thread.ts')
  await writeFile(
    script,
    `import { open } from 'node:fs/promises'
     import { serveThread } from '${import.meta.dirname}/disk-thread.ts'
     await serveThread(async (input, { report }) => { ${body} })`,
  )
  return pathToFileURL(script)
}

it('settles after an abort although the storage hangs', { timeout: 30_000 }, async () => {
  const folder = await temporaryFolder()
  // Opening a named pipe that nobody writes hangs like a file on a server that is gone.
  const pipe = join(folder, 'pipe')
  await runTool('mkfifo', [pipe], { timeoutMs: 5_000 })
  const script = await threadOf(folder, `report('hanging'); const file = await open(input); await file.close()`)
  const controller = new AbortController()
  const reason = new Error('enough')
  let hangs = false
  const running = runInThread(script, pipe, {
    signal: controller.signal,
    graceMs: 100,
    onReport: () => {
      hangs = true
      controller.abort(reason)
    },
  })
  // The other end lets the call return, and with it the thread and this process.
  onTestFinished(async () => (await open(pipe, 'r+')).close())
  await expect(running).rejects.toBe(reason)
  expect(hangs).toBe(true)
})

it('gives the result, reports and errors of the thread', async () => {
  const folder = await temporaryFolder()
  const reports: unknown[] = []
  const onReport = (report: unknown): void => void reports.push(report)
  expect(await runInThread(await threadOf(folder, 'report(1); report(2); return input + 1'), 41, { onReport })).toBe(42)
  expect(reports).toEqual([1, 2])
  await expect(runInThread(await threadOf(folder, `throw new TypeError('wrong')`), 1)).rejects.toMatchObject({ code: 'INTERNAL' })
})
