import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { pino } from 'pino'
import { createShutdown } from './shutdown.ts'

const logger = pino({ level: 'silent' })
let before: Record<string, NodeJS.SignalsListener[]> = {}

beforeEach(() => {
  before = Object.fromEntries(signals.map((name) => [name, process.listeners(name)]))
})

afterEach(() => {
  for (const name of signals) {
    for (const listener of process.listeners(name)) {
      if (!before[name]?.includes(listener)) process.off(name, listener)
    }
  }
})

const signals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const

function exitRecorder() {
  const exited = Promise.withResolvers<number>()
  return { exit: (code: number) => exited.resolve(code), code: exited.promise }
}

test('a signal closes everything, newest first, and exits 0', async () => {
  const { exit, code } = exitRecorder()
  const order: string[] = []
  const shutdown = createShutdown({ logger, exit })
  shutdown.add('first', () => void order.push('first'))
  shutdown.add('second', async () => {
    await new Promise((resolve) => setImmediate(resolve))
    order.push('second')
  })
  process.emit('SIGTERM', 'SIGTERM')
  expect(await code).toBe(0)
  expect(order).toEqual(['second', 'first'])
  expect(shutdown.signal.aborted).toBe(true)
})

test('a failing step does not keep the others from running, and the exit code tells', async () => {
  const { exit, code } = exitRecorder()
  const order: string[] = []
  const shutdown = createShutdown({ logger, exit })
  shutdown.add('first', () => void order.push('first'))
  shutdown.add('broken', () => Promise.reject(new Error('broken')))
  await shutdown.begin('test')
  expect(await code).toBe(1)
  expect(order).toEqual(['first'])
})

test('a step that hangs ends at the deadline', async () => {
  const { exit, code } = exitRecorder()
  const shutdown = createShutdown({ logger, exit, deadlineMs: 20 })
  shutdown.add('hangs', () => new Promise(() => {}))
  void shutdown.begin('test')
  expect(await code).toBe(1)
})

test('a second signal ends at once', () => {
  const exit = vi.fn<(code: number) => void>()
  const shutdown = createShutdown({ logger, exit, repeatMs: 0 })
  shutdown.add('hangs', () => new Promise(() => {}))
  process.emit('SIGINT', 'SIGINT')
  expect(exit).not.toHaveBeenCalled()
  process.emit('SIGINT', 'SIGINT')
  expect(exit).toHaveBeenCalledExactlyOnceWith(1)
})

test('the same Ctrl-C, heard twice, counts once', async () => {
  const { exit, code } = exitRecorder()
  const shutdown = createShutdown({ logger, exit })
  shutdown.add('takes a moment', () => new Promise((resolve) => setImmediate(resolve)))
  process.emit('SIGINT', 'SIGINT')
  process.emit('SIGINT', 'SIGINT')
  expect(await code).toBe(0)
})

test('something opened while stopping is closed too', async () => {
  const { exit, code } = exitRecorder()
  const closed = vi.fn<() => void>()
  const shutdown = createShutdown({ logger, exit })
  shutdown.add('opens late', () => shutdown.add('late', closed))
  void shutdown.begin('test', 3)
  expect(await code).toBe(3)
  expect(closed).toHaveBeenCalledOnce()
})
