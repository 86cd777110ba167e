import { open, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { requireTool } from '../../test/requires.ts'
import { temporaryFolder } from '../../test/temporary-folder.ts'
import { diskChanges } from './disk-changes.ts'

requireTool('qemu-img')

const KIB = 1024
const MIB = 1024 * KIB

async function image(name: string, pieces: Record<number, Buffer>): Promise<string> {
  const path = join(await temporaryFolder(), name)
  await writeFile(path, '')
  await truncate(path, 8 * MIB)
  const file = await open(path, 'r+')
  for (const [offset, piece] of Object.entries(pieces)) await file.write(piece, 0, piece.length, Number(offset))
  await file.close()
  return path
}

test('finds what was written, rewritten, and wiped, and nothing else', async () => {
  const same = Buffer.alloc(64 * KIB, 1)
  const before = await image('before', { 0: same, [3 * MIB]: Buffer.alloc(8 * KIB, 2), [5 * MIB]: Buffer.alloc(2 * MIB, 3) })
  const after = await image('after', {
    0: same,
    [MIB - 4 * KIB]: Buffer.alloc(8 * KIB, 4),
    [3 * MIB]: Buffer.concat([Buffer.alloc(4 * KIB, 2), Buffer.alloc(4 * KIB, 9)]),
  })

  expect(await diskChanges(before, after)).toEqual([
    { offsetBytes: MIB - 4 * KIB, sizeBytes: 8 * KIB, zero: false },
    { offsetBytes: 3 * MIB + 4 * KIB, sizeBytes: 4 * KIB, zero: false },
    { offsetBytes: 5 * MIB, sizeBytes: 2 * MIB, zero: true },
  ])
  expect(await diskChanges(after, after)).toEqual([])
})
