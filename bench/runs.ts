/** Runs that are compared: one of ours, one of theirs, in turn, because disks are noisy. */
import { join, resolve } from 'node:path'
import { measure } from './measure.ts'
import type { Cost } from './measure.ts'

export interface Pairs {
  ours: Cost[]
  theirs: Cost[]
}

/** The first pair warms caches and is not counted. `round` counts from 0, the warm-up. */
export async function pairs(
  what: string,
  rounds: number,
  ours: (round: number) => Promise<{ cost: Cost } | Cost>,
  theirs: (round: number) => Promise<Cost>,
): Promise<Pairs> {
  const result: Pairs = { ours: [], theirs: [] }
  for (let round = 0; round <= rounds; round += 1) {
    const mine = await ours(round)
    const other = await theirs(round)
    if (round === 0) continue
    result.ours.push('cost' in mine ? mine.cost : mine)
    result.theirs.push(other)
  }
  console.error(`  ${what}: measured`)
  return result
}

/** One of `steps/`, in a process of its own. A mover's code is compiled once, not for each disk: the compiled code lies in `folder`. */
export async function runStep(name: string, input: object, folder: string): Promise<Cost> {
  return measure('node', stepCommand(name, input), stepEnvironment(folder))
}

export function stepCommand(name: string, input: object): string[] {
  return [resolve(import.meta.dirname, 'steps', `${name}.ts`), JSON.stringify(input)]
}

export function stepEnvironment(folder: string): Record<string, string> {
  return { NODE_COMPILE_CACHE: join(folder, 'compiled') }
}
