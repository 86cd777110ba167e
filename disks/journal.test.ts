import { appendFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { Journal, readCheckpoint, type TransferIdentity } from './journal.ts'

const identity: TransferIdentity = {
  snapshotId: 'snapshot-1',
  parentBackupId: null,
  sizeBytes: 10 * BLOCK_SIZE_BYTES + 512,
  compression: 'zstd',
}

async function journalAt(...positions: number[]): Promise<string> {
  const path = join(await temporaryFolder(), 'disk-0.journal')
  const journal = await Journal.open(path, identity)
  for (const positionBytes of positions) await journal.append({ positionBytes, writtenBytes: positionBytes / 2 })
  await journal.close()
  return path
}

it('knows nothing of a transfer that never began', async () => {
  expect(await readCheckpoint(join(await temporaryFolder(), 'none'), identity)).toBeNull()
})

it('takes the newest line', async () => {
  const path = await journalAt(BLOCK_SIZE_BYTES, 3 * BLOCK_SIZE_BYTES)
  expect(await readCheckpoint(path, identity)).toEqual({
    positionBytes: 3 * BLOCK_SIZE_BYTES,
    writtenBytes: 1.5 * BLOCK_SIZE_BYTES,
  })
})

it('survives a line torn at any byte, and lines after it', async () => {
  const whole = JSON.stringify({ ...identity, positionBytes: identity.sizeBytes, writtenBytes: 1, at: 'now' })
  for (let length = 0; length < whole.length; length += 7) {
    const path = await journalAt(BLOCK_SIZE_BYTES)
    await appendFile(path, whole.slice(0, length))
    expect(await readCheckpoint(path, identity)).toMatchObject({ positionBytes: BLOCK_SIZE_BYTES })
    const journal = await Journal.open(path, identity)
    await journal.append({ positionBytes: 2 * BLOCK_SIZE_BYTES, writtenBytes: 0 })
    await journal.close()
    expect(await readCheckpoint(path, identity)).toMatchObject({ positionBytes: 2 * BLOCK_SIZE_BYTES })
  }
})

it.each<[string, Partial<TransferIdentity>]>([
  ['snapshot', { snapshotId: 'snapshot-2' }],
  ['parent', { parentBackupId: 'backup-1' }],
  ['size', { sizeBytes: identity.sizeBytes + 512 }],
  ['compression', { compression: 'none' }],
])('is void for another %s', async (_what, change) => {
  const path = await journalAt(BLOCK_SIZE_BYTES)
  expect(await readCheckpoint(path, { ...identity, ...change })).toBeNull()
})

it.each([-BLOCK_SIZE_BYTES, 1, BLOCK_SIZE_BYTES + 512, 11 * BLOCK_SIZE_BYTES, 0.5, '0', null])(
  'does not believe the position %s',
  async (positionBytes) => {
    const path = join(await temporaryFolder(), 'disk-0.journal')
    await writeFile(path, `${JSON.stringify({ ...identity, positionBytes, writtenBytes: 0 })}\n`)
    expect(await readCheckpoint(path, identity)).toBeNull()
  },
)
