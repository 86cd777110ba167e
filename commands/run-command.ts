/** What an administrator runs by hand, beside the processes: it reads the same environment, works on the catalog, and says what it did. */
import { createCatalog } from '../db/client.ts'
import type { Catalog } from '../db/client.ts'
import { HoldfastError } from '../domain/errors.ts'
import { readEnvironment } from '../runtime/environment.ts'
import type { Environment } from '../runtime/environment.ts'

export interface CommandSurroundings {
  catalog: Catalog
  environment: Environment
}

/** Runs it, prints its lines, and ends the process: 0 when it is done, 1 when it is not. @param flags those that it knows */
export async function runCommand(
  flags: readonly string[],
  command: (surroundings: CommandSurroundings, given: ReadonlySet<string>) => Promise<string[]>,
): Promise<never> {
  try {
    const lines = await withCatalog(readFlags(flags), command)
    process.stdout.write(`${lines.join('\n')}\n`)
  } catch (error) {
    process.stderr.write(`${describe(error)}\n`)
    process.exit(1)
  }
  process.exit(0)
}

async function withCatalog(
  given: ReadonlySet<string>,
  command: (surroundings: CommandSurroundings, given: ReadonlySet<string>) => Promise<string[]>,
): Promise<string[]> {
  const environment = readEnvironment()
  const catalog = createCatalog(environment.databaseUrl, { connections: 3 })
  try {
    return await command({ catalog, environment }, given)
  } finally {
    await catalog.destroy()
  }
}

function readFlags(known: readonly string[]): ReadonlySet<string> {
  const given = process.argv.slice(2)
  const unknown = given.find((flag) => !known.includes(flag))
  if (unknown === undefined) return new Set(given)
  const choice = known.map((flag) => `"-- ${flag}"`).join(' or ')
  throw new HoldfastError('INVALID_REQUEST', `"${unknown}" is not known here: give nothing, or ${choice}.`)
}

function describe(error: unknown): string {
  if (!(error instanceof HoldfastError)) return error instanceof Error ? (error.stack ?? error.message) : String(error)
  if (error.code !== 'CATALOG_UNAVAILABLE') return error.message
  return `${error.message}\nIs it the MariaDB that comes with Holdfast? It runs while "npm start" does: start that, with the same HOLDFAST_HOME, and run this beside it. Running this again is safe.`
}
