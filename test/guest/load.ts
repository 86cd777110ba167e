/** What the guest's `init.sh` writes to its disk, told again, so that a restored disk is judged without the guest. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** What file `number` of the load holds. */
export function loadContent(number: number): Buffer {
  const block = Buffer.alloc(4096, `file ${number} of the load\n`)
  return Buffer.concat(Array.from({ length: (number % 16) + 1 }, () => block))
}

/** The numbers of the files in `folder` that are whole and right, in order, and of those that are not. */
export async function checkLoad(folder: string): Promise<{ right: number[]; wrong: number[] }> {
  const numbers = (await readdir(folder)).map(Number).toSorted((a, b) => a - b)
  const [right, wrong]: [number[], number[]] = [[], []]
  for (const number of numbers) {
    const content = await readFile(join(folder, String(number)))
    ;(content.equals(loadContent(number)) ? right : wrong).push(number)
  }
  return { right, wrong }
}
