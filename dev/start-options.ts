/** What `npm start` takes from its environment and its command line. */
import { parseArgs } from 'node:util'
import { HoldfastError } from '../domain/errors.ts'
import { readEnvironment } from '../runtime/environment.ts'
import type { StackOptions } from './stack.ts'

export interface StartOptions {
  stack: StackOptions
  verbose: boolean
  help: boolean
}

export const startHelp = `npm start [-- --verbose]

Starts Holdfast with its own MariaDB and Temporal, all state in one folder. Ctrl-C stops it.

  --verbose                  shows what the processes print (it is always kept in the log folder)

Environment:
  HOLDFAST_HOME              folder of all state                    (.holdfast)
  HOLDFAST_API_HOST          address the API listens on             (127.0.0.1)
  HOLDFAST_API_PORT          its port                               (8082)
  HOLDFAST_TEMPORAL_PORT     port of our Temporal                   (7233)
  HOLDFAST_TEMPORAL_UI_PORT  port of its Web UI, or "off"           (8233)
  HOLDFAST_MOUNT_…           files of backups: see docs/operations.md
  DATABASE_URL               use this MariaDB instead of our own:   mysql://user:password@host:3306/holdfast
  TEMPORAL_ADDRESS           use this Temporal instead of our own:  host:7233
  TEMPORAL_NAMESPACE         its namespace                          (holdfast)
`

/** `INVALID_REQUEST` names what is wrong. */
export function readStartOptions(args: readonly string[], variables: NodeJS.ProcessEnv): StartOptions {
  const { verbose, help } = readArguments(args)
  const environment = readEnvironment(variables)
  return {
    verbose,
    help,
    stack: {
      home: environment.home,
      databaseUrl: given(variables['DATABASE_URL']),
      temporalAddress: given(variables['TEMPORAL_ADDRESS']),
      temporalNamespace: environment.temporalNamespace,
      apiHost: environment.apiHost,
      apiPort: environment.apiPort,
      temporalPort: port(variables, 'HOLDFAST_TEMPORAL_PORT', 7233),
      uiPort: variables['HOLDFAST_TEMPORAL_UI_PORT'] === 'off' ? null : port(variables, 'HOLDFAST_TEMPORAL_UI_PORT', 8233),
    },
  }
}

function readArguments(args: readonly string[]): { verbose: boolean; help: boolean } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { verbose: { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h', default: false } },
    })
    return values
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause)
    throw new HoldfastError('INVALID_REQUEST', `${what}\n\n${startHelp}`, { cause })
  }
}

function given(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}

function port(variables: NodeJS.ProcessEnv, name: string, fallback: number): number {
  const text = given(variables[name])
  if (text === undefined) return fallback
  const value = Number(text)
  if (Number.isInteger(value) && value >= 1 && value <= 65_535) return value
  throw new HoldfastError('INVALID_REQUEST', `${name} is "${text}": give a port from 1 to 65535.`)
}
