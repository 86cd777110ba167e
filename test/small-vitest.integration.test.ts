/** A runner that could not fail would prove nothing. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { runTool } from '../tools/run-tool.ts'
import type { SmallTestResult } from './small-vitest.ts'
import { temporaryFolder } from './temporary-folder.ts'

const declared = `
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
describe('outer', () => {
  let ready = 0
  beforeEach(() => { ready += 1 })
  it('holds', async () => {
    expect(ready).toBe(1)
    expect({ a: 1, b: [{ c: 'x y' }] }).toMatchObject({ b: [{ c: expect.stringContaining('y') }] })
    await expect(Promise.reject(new Error('no'))).rejects.toMatchObject({ message: 'no' })
  })
  it.each([[1, 'a'], [2, 'b']])('%s and %j', (number, text) => { expect(number).toBe(text === 'a' ? 1 : 2) })
  it('part is not the whole', () => { expect({ a: 1, b: 2 }).toEqual({ a: 1 }) })
  it('a longer list', () => { expect([1, 2]).toMatchObject([1]) })
  it('nothing rejected', async () => { await expect(Promise.resolve(1)).rejects.toMatchObject({}) })
  it('wrong rejection', async () => { await expect(Promise.reject(new Error('no'))).rejects.toMatchObject({ message: 'yes' }) })
  it('not', () => { expect('canary').not.toContain('can') })
  it('thrown', () => { throw new Error('thrown') })
  it('unknown matcher', () => { expect(1).toBeEven() })
  afterAll(() => { throw new Error('left over') })
})
`

it('passes what holds and fails what does not', async () => {
  const folder = await temporaryFolder()
  const [file, results] = [join(folder, 'declared.mjs'), join(folder, 'results')]
  await writeFile(file, declared)
  await runTool(process.execPath, [join(import.meta.dirname, 'small-vitest-runner.ts'), results, file], { timeoutMs: 30_000 })
  const tests = (await readFile(results, 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as SmallTestResult)
  const named = (failed: boolean) => tests.filter(({ failure }) => (failure !== null) === failed).map(({ name }) => name.slice(8))
  expect(named(false)).toEqual(['holds', '1 and "a"', '2 and "b"'])
  expect(named(true)).toEqual([
    'part is not the whole',
    'a longer list',
    'nothing rejected',
    'wrong rejection',
    'not',
    'thrown',
    'unknown matcher',
    '(clean-up)',
  ])
})
