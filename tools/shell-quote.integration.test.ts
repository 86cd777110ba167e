import { array, assert, asyncProperty, string } from 'fast-check'
import { expect, it } from 'vitest'
import { runTool } from './run-tool.ts'
import { shellCommand, shellQuote } from './shell-quote.ts'

const anyText = string({ unit: 'binary' }).filter((text) => !text.includes('\0'))

async function wordsOf(commandLine: string): Promise<string[]> {
  const { stdout } = await runTool('sh', ['-c', commandLine], { timeoutMs: 10_000 })
  return stdout.split('\0').slice(0, -1)
}

it('brings any text through a shell as one word', async () => {
  const words = array(anyText, { minLength: 1, maxLength: 50 })
  await assert(
    asyncProperty(words, async (given) => {
      expect(await wordsOf(`printf '%s\\0' ${given.map(shellQuote).join(' ')}`)).toEqual(given)
    }),
    { numRuns: 60 },
  )
})

it.each([
  "'",
  '"',
  '$(touch /x)',
  '`id`',
  '\\',
  "'\\''",
  '\n',
  '!',
  '-n',
  '~',
  '*',
  '',
  ' ',
  '$1',
  'ü\u{1F600}',
  ';exit 1',
  '${IFS}',
])('brings %j through', async (value) => {
  expect(await wordsOf(`printf '%s\\0' x${shellQuote(value)}x ${shellQuote(value)}`)).toEqual([`x${value}x`, value])
})

it('gives a script its arguments through two shells', async () => {
  const args = ["it's", '$HOME', '-rf /', '"; exit 3 #', '']
  expect(await wordsOf(shellCommand(`printf '%s\\0' "$@"`, args))).toEqual(args)
})

it('refuses what no argument can hold', () => {
  expect(() => shellQuote('a\0b')).toThrow(expect.objectContaining({ code: 'INVALID_REQUEST' }))
})
