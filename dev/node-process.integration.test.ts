import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { startNodeProcess } from './node-process.ts'

async function start(source: string, options: { readyTimeoutMs?: number; signal?: AbortSignal } = {}) {
  const script = join(await temporaryFolder(), 'process.ts')
  await writeFile(script, source)
  const output: string[] = []
  const process = startNodeProcess({
    name: 'mover',
    script,
    env: { HOLDFAST_TEST: 'from the supervisor' },
    signal: new AbortController().signal,
    onOutput: (text) => output.push(text),
    logPath: '/logs/mover.log',
    ...options,
  })
  return { process, output }
}

const forever = 'setInterval(() => {}, 1000)'

test('is ready when it says so, even in pieces, and not before', async () => {
  const { process, output } = await start(`
    console.log('not "ready" yet')
    console.log('{"msg":"almost \\"ready\\""}')
    process.stdout.write('{"level":30,"ms')
    setTimeout(() => console.log('g":"ready","env":"' + process.env.HOLDFAST_TEST + '"}'), 50)
    ${forever}`)
  const child = await process
  onTestFinished(() => child.stop(0))
  expect(output.join('')).toContain('"env":"from the supervisor"')
})

test('one that ends before is reported with its last words and its log', async () => {
  const { process } = await start(`console.error('the disk is on fire'); process.exit(3)`)
  await expect(process).rejects.toMatchObject({
    code: 'TOOL_FAILED',
    message: expect.stringMatching(
      /^The mover ended \(exit code 3\) before it was ready\.[\s\S]*the disk is on fire[\s\S]*\/logs\/mover\.log$/,
    ),
  })
})

test('one that never gets ready is stopped and reported', async () => {
  const { process, output } = await start(`console.log(process.pid); ${forever}`, { readyTimeoutMs: 1_500 })
  await expect(process).rejects.toMatchObject({ code: 'TOOL_TIMEOUT' })
  expect(() => globalThis.process.kill(Number(output.join('')), 0)).toThrow('ESRCH')
})

test('giving up while it starts stops it and rejects with the reason', async () => {
  const giveUp = new AbortController()
  const { process, output } = await start(`console.log(process.pid); ${forever}`, { signal: giveUp.signal })
  await expect.poll(() => output.join(''), { timeout: 60_000 }).not.toBe('')
  giveUp.abort(new Error('changed my mind'))
  await expect(process).rejects.toThrow('changed my mind')
  expect(() => globalThis.process.kill(Number(output.join('')), 0)).toThrow('ESRCH')
})
