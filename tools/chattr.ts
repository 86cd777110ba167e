/** `chattr` and `lsattr`: the immutable flag of files and folders. Both are run inside the folder, so that a path cannot be led astray. */
import { HoldfastError } from '../domain/errors.ts'
import { runTool } from './run-tool.ts'

const TIMEOUT_MS = 20_000
// A translated or rearranged output would be misread as "not locked", or worse.
const plain = { LC_ALL: 'C' }

/** `folder`: also `/proc/self/fd/<n>`. `.` names the folder itself. `TOOL_FAILED` with what chattr said: not supported, not permitted. */
export async function setImmutable(folder: string, names: readonly string[], immutable: boolean): Promise<void> {
  if (names.length === 0) return
  await runTool('chattr', [immutable ? '+i' : '-i', '--', ...names], { cwd: folder, timeoutMs: TIMEOUT_MS, env: plain })
}

/** Those of `names` that carry the flag. `TOOL_FAILED` where the file system has none. */
export async function immutableAmong(folder: string, names: readonly string[]): Promise<Set<string>> {
  if (names.length === 0) return new Set()
  const { stdout } = await runTool('lsattr', ['-d', '--', ...names], { cwd: folder, timeoutMs: TIMEOUT_MS, env: plain })
  return immutableIn(stdout, names)
}

/** Reads what `lsattr -d` says of these names. Exported for its tests. `TOOL_FAILED` unless it speaks of each. */
export function immutableIn(output: string, names: readonly string[]): Set<string> {
  const flags = new Map(
    output.split('\n').flatMap((line): [string, string][] => {
      const found = /^([-a-zA-Z]{8,}) (.+)$/.exec(line)
      return found ? [[found[2]!, found[1]!]] : []
    }),
  )
  const unknown = names.find((name) => !flags.has(name))
  if (unknown !== undefined) throw new HoldfastError('TOOL_FAILED', `lsattr says nothing about "${unknown}": ${output.trim()}`)
  return new Set(names.filter((name) => flags.get(name)!.includes('i')))
}
