import { EventEmitter, once } from 'node:events'
import { expect, onTestFinished, test } from 'vitest'
import { startTool } from '../tools/run-tool.ts'
import { superviseService } from './supervised-service.ts'
import type { ReadyProcess, ServiceEvent, SupervisedService } from './supervised-service.ts'

const never = new AbortController().signal

/** A service of real processes, `sleep`s, whose attempts to start may be made to fail. */
async function supervise(failures: (attempt: number) => Error | undefined = () => undefined) {
  const events: ServiceEvent[] = []
  const bus = new EventEmitter()
  let attempts = 0
  const service = await superviseService(
    {
      name: 'sleeper',
      stopGraceMs: 1_000,
      async start() {
        attempts += 1
        const failure = failures(attempts)
        if (failure) throw failure
        return startTool('sleep', ['1000'])
      },
    },
    (event) => {
      events.push(event)
      bus.emit(event.kind, event)
    },
    never,
  )
  onTestFinished(() => service.stop())
  return { service, events, next: (kind: ServiceEvent['kind']) => once(bus, kind), attempts: () => attempts }
}

function kill(service: SupervisedService): number {
  const pid = service.pid
  if (pid === null) throw new Error('the service does not run')
  process.kill(pid, 'SIGKILL')
  return pid
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

test('what is killed runs again, as often as it is killed', async () => {
  const { service, events, next } = await supervise()
  for (let round = 0; round < 3; round++) {
    const restarted = next('restarted')
    const previousPid = kill(service)
    const [event] = await restarted
    expect(event).toMatchObject({ previousPid, pid: service.pid })
    expect(service.pid).not.toBe(previousPid)
  }
  expect(events.filter((event) => event.kind === 'exited')).toMatchObject([
    { exit: { exitCode: null, signal: 'SIGKILL' }, restartInMs: 200 },
    { restartInMs: 400 },
    { restartInMs: 800 },
  ])
})

test('an attempt that fails is followed by another, after a longer pause', async () => {
  const { service, events, next } = await supervise((attempt) =>
    attempt === 2 || attempt === 3 ? new Error(`attempt ${attempt}`) : undefined,
  )
  const restarted = next('restarted')
  kill(service)
  await restarted
  expect(events.filter((event) => event.kind === 'restart-failed')).toMatchObject([
    { error: { message: 'attempt 2' }, restartInMs: 400 },
    { error: { message: 'attempt 3' }, restartInMs: 800 },
  ])
})

test('a first start that fails is the caller’s to handle; nothing is tried again', async () => {
  let attempts = 0
  const start = async (): Promise<ReadyProcess> => {
    attempts += 1
    throw new Error('no luck')
  }
  await expect(superviseService({ name: 'x', start, stopGraceMs: 1 }, () => undefined, never)).rejects.toThrow('no luck')
  expect(attempts).toBe(1)
})

test('stopped means stopped: the process is gone and not started again', async () => {
  const { service, events, attempts } = await supervise()
  const pid = service.pid
  await Promise.all([service.stop(), service.stop()])
  expect(service.pid).toBeNull()
  expect(pid !== null && isAlive(pid)).toBe(false)
  expect(attempts()).toBe(1)
  expect(events.map((event) => event.kind)).toEqual(['starting', 'ready', 'stopping', 'stopped'])
})

test('stopping ends the pause before a restart', async () => {
  const { service, next, attempts } = await supervise((attempt) => (attempt > 1 ? new Error('never again') : undefined))
  const failed = next('restart-failed')
  kill(service)
  await failed
  const before = attempts()
  await service.stop()
  expect(service.pid).toBeNull()
  expect(attempts()).toBe(before)
})

test('a restart that succeeds while the service is being stopped leaves no process', async () => {
  const reached = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  let latest: ReadyProcess | undefined
  let attempts = 0
  const service = await superviseService(
    {
      name: 'slow',
      stopGraceMs: 1_000,
      async start() {
        attempts += 1
        if (attempts === 2) {
          reached.resolve()
          await goOn.promise
        }
        return (latest = startTool('sleep', ['1000']))
      },
    },
    () => undefined,
    never,
  )
  onTestFinished(() => latest?.stop(0))
  kill(service)
  await reached.promise
  const stopped = service.stop()
  goOn.resolve()
  await stopped
  expect(attempts).toBe(2)
  expect(latest && isAlive(latest.pid)).toBe(false)
})
