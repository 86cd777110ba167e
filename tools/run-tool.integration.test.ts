import { expect, it, onTestFinished } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { runTool, startTool, unexpectedExit } from './run-tool.ts'

async function failureOf(work: Promise<unknown>): Promise<HoldfastError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof HoldfastError)) throw new TypeError(`expected a HoldfastError, got ${String(error)}`)
  return error
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

it('returns what the program printed', async () => {
  expect(await runTool('cat', [], { timeoutMs: 5_000, input: 'hello' })).toEqual({ stdout: 'hello', stderr: '', exitCode: 0 })
})

it('names a program that is not installed', async () => {
  const error = await failureOf(runTool('no-such-program', [], { timeoutMs: 5_000 }))
  expect(error.code).toBe('TOOL_MISSING')
  expect(error.message).toContain('no-such-program')
})

it('reports the exit code and the last words, never the arguments', async () => {
  const error = await failureOf(runTool('sh', ['-c', 'echo sorry >&2; exit 3', 'argument-canary'], { timeoutMs: 5_000 }))
  expect(error).toMatchObject({ code: 'TOOL_FAILED', details: { program: 'sh', exitCode: 3 } })
  expect(error.message).toContain('sorry')
  expect(JSON.stringify([error.message, error.details, String(error.cause)])).not.toContain('canary')
})

it('reports what a program complained on standard output', async () => {
  const error = await failureOf(runTool('sh', ['-c', 'echo no such host; exit 1'], { timeoutMs: 5_000 }))
  expect(error.message).toBe('sh ended with exit code 1: no such host')
})

it('takes an expected exit code as an answer', async () => {
  expect(await runTool('sh', ['-c', 'exit 1'], { timeoutMs: 5_000, allowExitCodes: [1] })).toMatchObject({ exitCode: 1 })
})

it('kills a program that takes too long, even one that ignores SIGTERM', { timeout: 20_000 }, async () => {
  const error = await failureOf(runTool('sh', ['-c', 'trap "" TERM; while :; do sleep 0.1; done'], { timeoutMs: 200 }))
  expect(error.code).toBe('TOOL_TIMEOUT')
})

it('rethrows the reason of an abort once the program is gone', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  const running = runTool('sleep', ['60'], { timeoutMs: 60_000, signal: controller.signal })
  controller.abort(reason)
  await expect(running).rejects.toBe(reason)
})

it('does not start at all under an aborted signal', async () => {
  const reason = new Error('before')
  await expect(runTool('true', [], { timeoutMs: 1_000, signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
})

it('stops a long-running program, and stops it only once', async () => {
  const tool = startTool('sleep', ['60'])
  await Promise.all([tool.stop(5_000), tool.stop(5_000)])
  expect(await tool.exited).toEqual({ exitCode: null, signal: 'SIGTERM' })
  expect(isAlive(tool.pid)).toBe(false)
  await tool.stop(0)
})

it('tells how a server ended by itself', async () => {
  const tool = startTool('sh', ['-c', 'echo no more room >&2; exit 4'])
  expect(await unexpectedExit(tool)).toMatchObject({ code: 'TOOL_FAILED', details: { exitCode: 4 } })
  expect(tool.stderrTail()).toContain('no more room')
  const absent = startTool('no-such-program', [])
  expect(await unexpectedExit(absent)).toMatchObject({ code: 'TOOL_MISSING' })
})

it('stops with its signal', async () => {
  const controller = new AbortController()
  const tool = startTool('sleep', ['60'], { signal: controller.signal })
  controller.abort()
  expect(await tool.exited).toMatchObject({ signal: 'SIGTERM' })
})

it('survives having too many files open, and says that it may pass', async () => {
  const script = `import { openSync, closeSync } from 'node:fs'
    import { runTool, startTool } from '${import.meta.dirname}/run-tool.ts'
    const files = []
    try { for (;;) files.push(openSync('/dev/null')) } catch {}
    const tell = (error) => [error.code, error.retryable]
    const told = []
    try { startTool('sleep', ['60']) } catch (error) { told.push(tell(error)) }
    told.push(tell(await runTool('true', [], { timeoutMs: 5_000 }).catch((error) => error)))
    await new Promise((resolve) => setTimeout(resolve, 50))
    for (const file of files) closeSync(file)
    const { exitCode } = await runTool('true', [], { timeoutMs: 5_000 })
    console.log(JSON.stringify([...told, exitCode]))`
  const limited = ['-c', 'ulimit -n 200; exec "$0" "$@"', process.execPath, '--input-type=module-typescript', '-e', script]
  const { stdout } = await runTool('sh', limited, { timeoutMs: 20_000 })
  expect(JSON.parse(stdout)).toEqual([['TOOL_FAILED', true], ['TOOL_FAILED', true], 0])
})

it('does not call a program missing that the system refuses to start', () => {
  expect(() => startTool(import.meta.dirname, [], { dieWithParent: false })).toThrow(
    expect.objectContaining({ code: 'TOOL_FAILED', retryable: true }),
  )
  expect(() => startTool('no-such-program', [], { dieWithParent: false })).toThrow(
    expect.objectContaining({ code: 'TOOL_MISSING' }),
  )
})

it('leaves no orphan when its parent is killed', async () => {
  const script = `import { startTool } from '${import.meta.dirname}/run-tool.ts'
    const tool = startTool('sleep', ['60']); console.log(tool.pid); setInterval(() => {}, 1000)`
  let printed = ''
  const parent = startTool(process.execPath, ['--input-type=module-typescript', '-e', script], {
    onOutput: (text) => void (printed += text),
  })
  onTestFinished(() => parent.stop(0))
  await expect.poll(() => /^\d+\n/m.test(printed), { timeout: 60_000 }).toBe(true)
  const orphan = Number.parseInt(printed, 10)
  expect(isAlive(orphan)).toBe(true)
  process.kill(parent.pid, 'SIGKILL')
  await expect.poll(() => isAlive(orphan), { timeout: 60_000 }).toBe(false)
})
