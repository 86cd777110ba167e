/** The one place where values become part of a shell's command line: SSH servers take no argument lists. */
import { HoldfastError } from '../domain/errors.ts'

/** `value` as one word of a POSIX shell, whatever it holds. `INVALID_REQUEST` for a NUL, which no argument can hold. */
export function shellQuote(value: string): string {
  if (value.includes('\0')) throw new HoldfastError('INVALID_REQUEST', 'A value for a program holds a NUL character.')
  return `'${value.replaceAll("'", `'\\''`)}'`
}

/** A command line that runs `script` in `sh` with `args` as `$1`, `$2` …; the login shell only has to know single quotes. */
export function shellCommand(script: string, args: readonly string[]): string {
  return ['sh', '-c', script, 'holdfast', ...args].map(shellQuote).join(' ')
}
