/** `npm start`: Holdfast on this machine until Ctrl-C. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HoldfastError } from '../domain/errors.ts'
import { createLogger } from '../runtime/logger.ts'
import { createShutdown } from '../runtime/shutdown.ts'
import { homeFolders } from '../runtime/environment.ts'
import { readableLines } from './readable-lines.ts'
import { startStack } from './stack.ts'
import type { Stack, StackEvent } from './stack.ts'
import { readStartOptions, startHelp } from './start-options.ts'
import type { StartOptions } from './start-options.ts'
import { StartProgress } from './start-progress.ts'

const STOP_DEADLINE_MS = 30_000
const progress = new StartProgress(process.stdout)

async function main(): Promise<void> {
  const options = readStartOptions(process.argv.slice(2), process.env)
  if (options.help) return progress.print(startHelp)
  // Silent: this process speaks to a person, in its own words.
  const shutdown = createShutdown({ logger: createLogger('start', 'silent'), deadlineMs: STOP_DEADLINE_MS })
  const starting = start(options, shutdown.signal)
  shutdown.add('stack', () => stop(starting))
  try {
    announce(await starting, options.stack.temporalNamespace ?? 'default')
  } catch (error) {
    if (shutdown.signal.aborted) return
    throw error
  }
}

function start({ stack, verbose }: StartOptions, signal: AbortSignal): Promise<Stack> {
  progress.print(`Holdfast, state in ${stack.home}`)
  return startStack({
    ...stack,
    signal,
    onEvent: (event) => (event.kind === 'first-admin' ? showFirstAdmin(event, stack.home) : progress.show(event)),
    ...(verbose ? { onOutput: readableLines((line) => progress.print(line)) } : {}),
  })
}

async function stop(starting: Promise<Stack>): Promise<void> {
  progress.print('\nStopping; transfers write a checkpoint and go on at the next start.')
  // A start that was interrupted has cleaned up after itself before it rejects.
  const stack = await starting.catch(() => undefined)
  try {
    await stack?.stop()
    progress.print('Stopped.')
  } catch (error) {
    progress.print(describe(error))
    throw error
  }
}

function announce(stack: Stack, namespace: string): void {
  const row = (title: string, text: string): string => `  ${title.padEnd(16)} ${text}`
  const rows = [row('API', `${stack.apiUrl}/api/v1`), row('API reference', `${stack.apiUrl}/api/v1/docs`)]
  if (stack.uiUrl !== null) rows.push(row('Temporal Web UI', `${stack.uiUrl}/namespaces/${namespace}/workflows`))
  rows.push(row('Logs', stack.folders.logs))
  progress.print(`\nHoldfast is ready.\n\n${rows.join('\n')}\n\nCtrl-C stops it.`)
}

/** On a terminal only: what goes to a pipe ends in somebody's log. */
function showFirstAdmin(event: Extract<StackEvent, { kind: 'first-admin' }>, home: string): void {
  if (process.stdout.isTTY) {
    progress.print(`\n  First login, shown this once:  user ${event.username}  password ${event.password}\n`)
    return
  }
  const path = join(homeFolders(home).keys, 'first-login')
  writeFileSync(path, `${event.username}\n${event.password}\n`, { mode: 0o600 })
  progress.print(`  The first login is in ${path}: read it, log in, delete it.`)
}

function describe(error: unknown): string {
  if (error instanceof HoldfastError) return error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

try {
  await main()
} catch (error) {
  progress.print(`\n${describe(error)}`)
  process.exit(1)
}
