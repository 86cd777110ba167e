/** The mover's lines about a search, as ours: each is sent on as it comes. */
import type { SearchLine } from '../files/mounted-file.ts'
import { searchLineAnswer } from './answers/restore-files.ts'

/** A line holds three paths at most. */
const LINE_MAX_CHARACTERS = 1024 * 1024

/** What came together goes out together. Throws when a line is no JSON, or endless. */
export async function* searchLines(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LINE_MAX_CHARACTERS) throw new Error('A line of the answer does not end.')
    const text = lines.map(lineAnswer).join('')
    if (text !== '') yield Buffer.from(text)
  }
  if (rest !== '') yield Buffer.from(lineAnswer(rest))
}

function lineAnswer(text: string): string {
  const line: SearchLine = JSON.parse(text)
  return `${JSON.stringify(searchLineAnswer(line))}\n`
}
