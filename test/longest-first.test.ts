import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { knownSeconds } from './longest-first.ts'

test('only files that exist are known to take long', () => {
  const files = Object.keys(knownSeconds)
  expect(files.length).toBeGreaterThan(0)
  expect(files.filter((file) => !existsSync(resolve(import.meta.dirname, '..', file)))).toEqual([])
})
