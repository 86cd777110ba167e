import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nameMatcher } from './name-match.ts'

describe('search by name', () => {
  it.each([
    ['host', 'etc-HOSTS.old', true],
    ['host', 'hots', false],
    ['*.TXT', 'a.txt', true],
    ['*.txt', 'a.txt.gz', false],
    ['?.txt', 'é.txt', true],
    ['?.txt', '😀.txt', true],
    ['?.txt', 'ab.txt', false],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-c-b', false],
    ['*', '', true],
    ['cafe\u0301', 'CAF\u00c9 menu', true],
    ['[a].txt', '[a].txt', true],
    ['(a+)+$', '(A+)+$', true],
  ])('%s in %s: %s', (wanted, name, found) => {
    expect(nameMatcher(wanted)(name)).toBe(found)
  })

  it('agrees with a plain definition of stars and question marks', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 12 })
    const patterns = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?'), maxLength: 8 })
    fc.assert(
      fc.property(patterns, letters, (pattern, name) => {
        const wanted = `*${pattern}`
        expect(nameMatcher(wanted)(name)).toBe(plainly(wanted, name))
      }),
      { numRuns: 2_000 },
    )
  })

  it('takes no time over patterns that take for ever elsewhere', () => {
    const started = performance.now()
    expect(nameMatcher(`${'*a'.repeat(200)}b`)('a'.repeat(1_000))).toBe(false)
    expect(performance.now() - started).toBeLessThan(2_000)
  })
})

function plainly(pattern: string, name: string): boolean {
  if (pattern === '') return name === ''
  if (pattern[0] === '*') return plainly(pattern.slice(1), name) || (name !== '' && plainly(pattern, name.slice(1)))
  return name !== '' && (pattern[0] === '?' || pattern[0] === name[0]) && plainly(pattern.slice(1), name.slice(1))
}
