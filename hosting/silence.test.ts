import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { StorageInfo } from '../domain/storage.ts'
import { Silence } from './silence.ts'

const deadlines = { questionMs: 10_000, giveUpMs: 30_000 }

beforeEach(() => vi.useFakeTimers())
afterEach(() => {
  vi.restoreAllMocks()
  vi.useRealTimers()
})

/** A question that is never answered, unless `answer` is called. */
function openQuestion() {
  const { promise, resolve } = Promise.withResolvers<StorageInfo>()
  const said: string[] = []
  const silence = new Silence({
    deadlines,
    ask: () => promise,
    onSilent: () => said.push('silent'),
    onAnswer: () => said.push('answered'),
    onGivingUp: () => said.push('given up'),
  })
  const asked = silence.ask()
  const answer = () => resolve({ totalBytes: 1, usedBytes: 0, availableBytes: 1, totalInodes: 0, usedInodes: 0, writable: true })
  return { silence, asked, said, answer }
}

describe('storage that does not answer', () => {
  it('is silent after its time, and given up once after some more', async () => {
    const { silence, asked, said } = openQuestion()
    await vi.advanceTimersByTimeAsync(deadlines.questionMs - 1_000)
    expect(said).toEqual([])
    await vi.advanceTimersByTimeAsync(1_000)
    expect(await asked).toBe('silent')
    expect(silence.since).not.toBeNull()
    await vi.advanceTimersByTimeAsync(2 * deadlines.giveUpMs)
    expect(said).toEqual(['silent', 'given up'])
  })

  it('is silent when it answers after all only until then', async () => {
    const { silence, said, answer } = openQuestion()
    await vi.advanceTimersByTimeAsync(deadlines.questionMs + 1_000)
    answer()
    await vi.advanceTimersByTimeAsync(1_000)
    expect(silence.since).toBeNull()
    expect(said).toEqual(['silent', 'answered'])
  })

  it('is not silent while work goes on, for as long as that may be', async () => {
    const { silence, said } = openQuestion()
    for (let second = 0; second < 30; second++) {
      silence.hear()
      await vi.advanceTimersByTimeAsync(1_000)
    }
    expect(said).toEqual([])
    await vi.advanceTimersByTimeAsync(deadlines.questionMs)
    expect(said).toEqual(['silent'])
  })
})

describe('a clock', () => {
  it('that is set forward makes nothing silent', async () => {
    const { said } = openQuestion()
    vi.setSystemTime(Date.now() + 3_600_000)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(said).toEqual([])
  })

  it('that is set back hides nothing', async () => {
    const { said } = openQuestion()
    vi.setSystemTime(Date.now() - 3_600_000)
    await vi.advanceTimersByTimeAsync(deadlines.questionMs)
    expect(said).toEqual(['silent'])
  })

  it('that went on while this process was stopped makes nothing silent before the answer could be read', async () => {
    const { said } = openQuestion()
    const real = performance.now.bind(performance)
    vi.spyOn(performance, 'now').mockImplementation(() => real() + 600_000)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(said).toEqual([])
  })
})
