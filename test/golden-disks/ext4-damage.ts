/** Damage at chosen places of an ext4 on a whole disk, and files added to it, as `debugfs` can from outside. */
import { open } from 'node:fs/promises'
import { runTool } from '../../tools/run-tool.ts'

const timeoutMs = 30_000
const DAMAGE = Buffer.from('damaged!')

/** What `debugfs` answers to one request about an image. */
async function ask(image: string, request: string): Promise<string> {
  return (await runTool('debugfs', ['-R', request, image], { timeoutMs })).stdout
}

async function blockSize(image: string): Promise<number> {
  return Number(/Block size:\s+(\d+)/.exec(await ask(image, 'stats -h'))?.[1])
}

/** Spoils what the file system knows about a file; its content stays. */
export async function damageInode(image: string, path: string): Promise<void> {
  const told = /located at block (\d+), offset (0x[0-9a-f]+)/.exec(await ask(image, `imap ${path}`))
  await write(image, Number(told?.[1]) * (await blockSize(image)) + Number(told?.[2]) + 4)
}

/** Spoils the first block of a folder. */
export async function damageFolder(image: string, path: string): Promise<void> {
  const first = (await ask(image, `blocks ${path}`)).trim().split(' ')[0]
  await write(image, Number(first) * (await blockSize(image)) + 24)
}

/** Adds a file to the root. `content`: path of a file of this host. */
export async function addFile(image: string, name: string, content: string): Promise<void> {
  await runTool('debugfs', ['-w', '-R', `write ${content} ${name}`, image], { timeoutMs })
}

async function write(image: string, offset: number): Promise<void> {
  if (!Number.isSafeInteger(offset)) throw new RangeError(`debugfs did not say where that lies in ${image}`)
  const file = await open(image, 'r+')
  try {
    await file.write(DAMAGE, 0, DAMAGE.length, offset)
  } finally {
    await file.close()
  }
}
