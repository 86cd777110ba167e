import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { LocalRepository } from '../repositories/local.ts'
import { publishSample, sampleReference } from '../repositories/sample-backup.ts'
import { failureOf } from '../test/failure.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { loadChain } from './chain-links.ts'
import { requireStillBroken, summarize } from './verification.ts'
import type { DiskVerification } from './verification.ts'

const labels = new Map([
  [0, 'system'],
  [1, 'data'],
])
const sound: DiskVerification = { diskIndex: 0, verifiedBytes: 100, damage: [], damageCount: 0 }

function damaged(offsets: number[], damageCount = offsets.length): DiskVerification {
  const damage = offsets.map((offsetBytes) => ({
    kind: 'block' as const,
    offsetBytes,
    lengthBytes: 1,
    message: 'not what was first read.',
    file: '/repo/b/disk-1.qcow2',
    backupId: 'b',
  }))
  return { diskIndex: 1, verifiedBytes: 50, damage, damageCount }
}

describe('what a verification says', () => {
  test('passed, when every disk reads back', () => {
    expect(summarize('VM "web", backup b', [sound], labels)).toMatchObject({ status: 'passed', verifiedBytes: 100, damage: [] })
  })

  test('names VM, backup, disk and offset, and how much more there is', () => {
    const outcome = summarize('VM "web", backup b', [sound, damaged([4096, 8192], 70)], labels)
    expect(outcome).toMatchObject({ status: 'failed', verifiedBytes: 150 })
    expect(outcome.message).toBe(
      'VM "web", backup b, disk 1 "data", offset 4096: not what was first read. (and 69 more damaged places)',
    )
    expect(outcome.damage.map((found) => [found.diskIndex, found.offsetBytes])).toEqual([
      [1, 4096],
      [1, 8192],
    ])
  })

  test('stays small however much is damaged', () => {
    const everywhere = Array.from({ length: 50 }, (_, index) => index)
    expect(summarize('x', [damaged(everywhere), damaged(everywhere)], labels).damage).toHaveLength(50)
  })
})

describe('a backup that was not found', () => {
  const [full, increment] = [sampleReference(1), sampleReference(2)]

  async function sampleRepository(): Promise<{ repository: LocalRepository; root: string }> {
    const root = join(await temporaryFolder(), 'repository')
    const repository = new LocalRepository('repo-test', root)
    await repository.initialize()
    await publishSample(repository, full)
    await publishSample(repository, increment, full)
    return { repository, root }
  }

  const absent = new HoldfastError('BACKUP_NOT_FOUND', 'It is not published.')

  test.each([absent, new HoldfastError('CORRUPT_CHAIN', 'Its parent is not published.', { cause: absent })])(
    'is not called damaged when the share was away: $code',
    async (error) => {
      const { repository, root } = await sampleRepository()
      // Back already when it is looked at again.
      const back = await failureOf(requireStillBroken(repository, increment, error))
      expect(back).toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
      await rename(root, `${root}-unmounted`)
      const away = await failureOf(requireStillBroken(repository, increment, error))
      expect(away).toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
    },
  )

  test('is called damaged when the repository is there and the backup is not', async () => {
    const { repository, root } = await sampleRepository()
    const path = join(root, 'vms', full.vmFolder)
    await rename(join(path, full.backupId), join(path, 'elsewhere'))
    for (const reference of [full, increment]) {
      const error = await failureOf(loadChain(repository, reference))
      await expect(requireStillBroken(repository, reference, error)).resolves.toBeUndefined()
    }
  })

  test('other damage stands without a second look', async () => {
    const { repository } = await sampleRepository()
    const error = new HoldfastError('BACKUP_CORRUPT', 'Its manifest is not JSON.')
    await expect(requireStillBroken(repository, increment, error)).resolves.toBeUndefined()
  })
})
