/** A plan as `populate.pl` reads it: a line per file, and the bytes of all files behind each other. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { nameToBytes } from '../../mounts/file-names.ts'
import type { PlannedFile } from './planned-file.ts'

const POPULATE = join(import.meta.dirname, 'populate.pl')

/** Writes the plan beside `base` and resolves with the shell command that carries it out below a folder of the machine. */
export async function writePlan(base: string, planned: readonly PlannedFile[], mountedAt: string): Promise<string> {
  const content: Buffer[] = []
  let length = 0
  const lines = planned.map((file) => {
    const pieces = file.pieces.map(([offset, bytes]) => {
      content.push(bytes)
      length += bytes.length
      return `${offset}:${bytes.length}:${length - bytes.length}`
    })
    const { kind, mode, modifiedSeconds, modifiedNanoseconds, sizeBytes } = file
    const texts = [file.path, file.target ?? '', file.linkTo ?? ''].map((text) => nameToBytes(text).toString('hex'))
    return [kind, texts[0], mode, modifiedSeconds, modifiedNanoseconds, sizeBytes, texts[1], texts[2], pieces.join(',')].join(
      '\t',
    )
  })
  await writeFile(`${base}.plan`, `${lines.join('\n')}\n`)
  await writeFile(`${base}.content`, Buffer.concat(content))
  return `perl '${POPULATE}' '${base}.plan' '${base}.content' '${mountedAt}'`
}
