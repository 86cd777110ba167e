import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { StartProgress } from './start-progress.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function outputTo(written: string[], isTTY: boolean) {
  return { isTTY, write: (text: string) => written.push(text) }
}

test('on a terminal, what takes long counts its seconds on one line', () => {
  const written: string[] = []
  const progress = new StartProgress(outputTo(written, true))
  progress.show({ kind: 'starting', service: 'mover' })
  vi.advanceTimersByTime(2_000)
  progress.show({ kind: 'ready', service: 'mover', pid: 1, tookMs: 2_300 })
  vi.advanceTimersByTime(5_000)
  expect(written.join('')).toBe(
    '\r\u001B[K  mover … \r\u001B[K  mover … 1.0 s\r\u001B[K  mover … 2.0 s\r\u001B[K  mover            ready in 2.3 s\n',
  )
})

test('without a terminal, only what stays true is written, and a slow step now and then', () => {
  const written: string[] = []
  const progress = new StartProgress(outputTo(written, false))
  progress.show({ kind: 'starting', service: 'mariadb' })
  progress.show({ kind: 'progress', text: 'creating the catalog database' })
  vi.advanceTimersByTime(11_000)
  progress.show({ kind: 'ready', service: 'mariadb', pid: 1, tookMs: 11_500 })
  expect(written).toEqual(['  creating the catalog database … 10.0 s\n', '  MariaDB          ready in 11.5 s\n'])
})

test('a crash says how it ended and when the next attempt comes', () => {
  const written: string[] = []
  const progress = new StartProgress(outputTo(written, false))
  progress.show({ kind: 'exited', service: 'api', pid: 1, exit: { exitCode: null, signal: 'SIGKILL' }, restartInMs: 200 })
  progress.show({ kind: 'restart-failed', service: 'api', error: new Error('no luck'), restartInMs: 400 })
  progress.show({ kind: 'restarted', service: 'api', pid: 7, previousPid: 1, tookMs: 1_000 })
  expect(written).toEqual([
    '  API              ended by itself (signal SIGKILL); starting it again in 0.2 s\n',
    '  API              did not start: no luck\nNext attempt in 0.4 s.\n',
    '  API              runs again after 1.0 s (pid 7)\n',
  ])
})
