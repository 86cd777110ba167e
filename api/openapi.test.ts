import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { errorRows } from './openapi.ts'

const manual = readFileSync(new URL('../docs/api.md', import.meta.url), 'utf8')

test('docs/api.md has every error code with its status, and no other', () => {
  const table = manual.slice(manual.indexOf('## Error codes'))
  expect(table.match(/^\| [A-Z].*$/gm)?.join('\n')).toBe(errorRows())
})
