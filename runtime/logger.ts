/** Structured logs to stdout, one JSON object a line; readable ones when a person watches a terminal. */
import { pino } from 'pino'
import type { Logger } from 'pino'

export type { Logger }

/** Names that must never reach a log, wherever they stand in an object. */
const secretPaths = [
  'password',
  '*.password',
  'token',
  '*.token',
  'authorization',
  '*.authorization',
  'databaseUrl',
  '*.databaseUrl',
]

export function createLogger(process: string, level = 'info'): Logger {
  return pino({ base: { process }, level, redact: secretPaths, timestamp: pino.stdTimeFunctions.isoTime })
}
