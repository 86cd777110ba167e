/** What requests of the file service may ask for. */
import { HoldfastError } from '../domain/errors.ts'

export type Query = Record<string, string | undefined>

/** `INVALID_REQUEST` when it is not there. */
export function text(query: Query, name: string): string {
  const value = query[name]
  if (value === undefined || value === '') throw invalid(name, 'must be given')
  return value
}

/** `INVALID_REQUEST` for anything but a whole number of the range. */
export function wholeNumber(
  query: Query,
  name: string,
  { fallback, min, max }: { fallback: number; min: number; max: number },
): number {
  const value = query[name]
  if (value === undefined) return fallback
  const number = Number(value)
  if (/^\d+$/.test(value) && number >= min && number <= max) return number
  throw invalid(name, `must be a whole number from ${min} to ${max}`)
}

/** `INVALID_REQUEST` for anything but one of the choices; the first is the default. */
export function choice<const Choice extends string>(query: Query, name: string, choices: readonly [Choice, ...Choice[]]): Choice {
  const value = query[name] ?? choices[0]
  const known = choices.find((candidate) => candidate === value)
  if (known !== undefined) return known
  throw invalid(name, `must be one of ${choices.join(', ')}`)
}

function invalid(name: string, what: string): HoldfastError {
  return new HoldfastError('INVALID_REQUEST', `"${name}" ${what}.`, { details: { parameter: name } })
}
