/**
 * As much of Vitest as a conformance suite needs, for machines in which Vitest itself takes minutes to start (User-Mode Linux). What is missing here
 * is no function, so that a test that needs it fails. `small-vitest-runner.ts` puts it in Vitest's place.
 */
import { AssertionError } from 'node:assert'
import { inspect } from 'node:util'
import { setTimeout as delay } from 'node:timers/promises'

export interface SmallTestResult {
  name: string
  /** `null`: passed. */
  failure: string | null
  durationMs: number
}

type Step = () => unknown
interface Suite {
  name: string
  parent: Suite | null
  before: Step[]
  after: Step[]
  beforeEach: Step[]
  afterEach: Step[]
  entries: (Suite | { name: string; run: Step })[]
}

const newSuite = (name: string, parent: Suite | null): Suite => ({
  name,
  parent,
  before: [],
  after: [],
  beforeEach: [],
  afterEach: [],
  entries: [],
})

const top = newSuite('', null)
let current = top

export function describe(name: string, declare: () => void): void {
  const suite = newSuite(name, current)
  current.entries.push(suite)
  current = suite
  declare()
  current = suite.parent ?? top
}

export const it = Object.assign((name: string, run: Step) => void current.entries.push({ name, run }), { each })
export const test = it
export const beforeAll = (step: Step): void => void current.before.push(step)
export const afterAll = (step: Step): void => void current.after.push(step)
export const beforeEach = (step: Step): void => void current.beforeEach.push(step)
export const afterEach = (step: Step): void => void current.afterEach.push(step)

function each(rows: readonly unknown[]) {
  return (name: string, run: (...args: unknown[]) => unknown): void => {
    for (const row of rows) {
      const args = Array.isArray(row) ? (row as unknown[]) : [row]
      let next = 0
      const title = name.replaceAll(/%[sj]/g, (form) => (form === '%j' ? JSON.stringify(args[next++]) : String(args[next++])))
      it(title, () => run(...args))
    }
  }
}

const TEST_MS = 180_000

/** Runs what was declared, one after the other, and hands over each result as it comes. */
export async function runDeclared(onResult: (result: SmallTestResult) => void): Promise<void> {
  await runSuite(top, [], onResult)
}

async function runSuite(suite: Suite, outer: readonly Suite[], onResult: (result: SmallTestResult) => void): Promise<void> {
  const path = [...outer, suite]
  const title = (name: string): string => [...path.map((part) => part.name).filter((part) => part !== ''), name].join(' > ')
  const failed = await failureOf(() => inOrder(suite.before))
  for (const entry of suite.entries) {
    if ('entries' in entry) await runSuite(entry, path, onResult)
    else {
      const begun = performance.now()
      const failure = failed ?? (await failureOf(() => withHooks(path, entry.run)))
      onResult({ name: title(entry.name), failure, durationMs: Math.round(performance.now() - begun) })
    }
  }
  const ended = await failureOf(() => inOrder(suite.after))
  if (ended !== null) onResult({ name: title('(clean-up)'), failure: ended, durationMs: 0 })
}

async function withHooks(path: readonly Suite[], run: Step): Promise<void> {
  try {
    for (const suite of path) await inOrder(suite.beforeEach)
    await run()
  } finally {
    for (const suite of path.toReversed()) await inOrder(suite.afterEach)
  }
}

async function inOrder(steps: readonly Step[]): Promise<void> {
  for (const step of steps) await step()
}

async function failureOf(run: () => Promise<void>): Promise<string | null> {
  const limit = new AbortController()
  const tooLong = delay(TEST_MS, `did not end within ${TEST_MS} ms`, { signal: limit.signal }).catch(() => null)
  try {
    return await Promise.race([run().then(() => null), tooLong])
  } catch (error) {
    return inspect(error, { depth: 6 })
  } finally {
    limit.abort()
  }
}

class Asymmetric {
  readonly matches: (value: unknown) => boolean
  constructor(matches: (value: unknown) => boolean) {
    this.matches = matches
  }
}

function isMatch(actual: unknown, expected: unknown, partial: boolean): boolean {
  if (expected instanceof Asymmetric) return expected.matches(actual)
  if (typeof expected !== 'object' || expected === null) return Object.is(actual, expected)
  if (typeof actual !== 'object' || actual === null || Array.isArray(actual) !== Array.isArray(expected)) return false
  const [given, wanted] = [actual as Record<string, unknown>, expected as Record<string, unknown>]
  const isWhole = partial && !Array.isArray(expected)
  const names = isWhole ? Object.keys(wanted) : [...new Set([...Object.keys(given), ...Object.keys(wanted)])]
  return names.every((name) => isMatch(given[name], wanted[name], partial))
}

type Matcher = (actual: unknown, expected?: unknown) => boolean

const matchers = {
  toBe: Object.is,
  toEqual: (actual, expected) => isMatch(actual, expected, false),
  toMatchObject: (actual, expected) => isMatch(actual, expected, true),
  toBeNull: (actual) => actual === null,
  toBeGreaterThan: (actual, expected) => Number(actual) > Number(expected),
  toBeGreaterThanOrEqual: (actual, expected) => Number(actual) >= Number(expected),
  toBeLessThan: (actual, expected) => Number(actual) < Number(expected),
  toBeLessThanOrEqual: (actual, expected) => Number(actual) <= Number(expected),
  toMatch: (actual, expected) => expected instanceof RegExp && expected.test(String(actual)),
  toContain: (actual, expected) => (Array.isArray(actual) || typeof actual === 'string') && actual.includes(expected as string),
} satisfies Record<string, Matcher>

type Checks<Answer> = { [Name in keyof typeof matchers]: (expected?: unknown) => Answer }

function checks<Answer>(answer: (check: (actual: unknown) => void) => Answer, isWanted = true, note = ''): Checks<Answer> {
  const named = Object.entries<Matcher>(matchers).map(([name, matcher]) => [
    name,
    (expected?: unknown) =>
      answer((actual) => {
        if (matcher(actual, expected) === isWanted) return
        const message = `${note} expected ${isWanted ? '' : 'not '}${name}\n${inspect(expected)}\ngot\n${inspect(actual, { depth: 5 })}`
        throw new AssertionError({ message })
      }),
  ])
  return Object.fromEntries(named) as Checks<Answer>
}

interface Expectation extends Checks<void> {
  not: Checks<void>
  rejects: Checks<Promise<void>>
  resolves: Checks<Promise<void>>
}

function expectation(actual: unknown, note?: string): Expectation {
  const rejection = async (): Promise<unknown> => {
    let value: unknown
    try {
      value = await (typeof actual === 'function' ? actual() : actual)
    } catch (error) {
      return error
    }
    throw new AssertionError({ message: `${note ?? ''} expected a rejection, got ${inspect(value)}` })
  }
  return {
    ...checks((check) => check(actual), true, note),
    not: checks((check) => check(actual), false, note),
    rejects: checks(async (check) => check(await rejection()), true, note),
    resolves: checks(async (check) => check(await actual), true, note),
  }
}

export const expect = Object.assign(expectation, {
  stringContaining: (part: string) => new Asymmetric((value) => typeof value === 'string' && value.includes(part)),
  any: (kind: (value: unknown) => unknown) => new Asymmetric((value) => typeof value === kind.name.toLowerCase()),
})
