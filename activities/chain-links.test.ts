import { describe, expect, test } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import type { Manifest, ManifestDisk } from '../domain/manifest.ts'
import type { PublishedBackup, Repository } from '../repositories/repository.ts'
import { failureOf } from '../test/failure.ts'
import { diskOf, linksOfDisk, loadChain } from './chain-links.ts'

const vmFolder = 'vm--12345678'

function disk(index: number, backing: string | null): ManifestDisk {
  return {
    index,
    key: `key-${index}`,
    label: '',
    size_bytes: 1,
    backup_type: backing === null ? 'full' : 'incremental',
    full_reason: backing === null ? 'requested' : null,
    file: `disk-${index}.qcow2`,
    file_size_bytes: 1,
    backing_file: backing,
    blocks_file: `disk-${index}.blocks`,
    blocks_sha256: '',
    change_id: null,
    written_bytes: 0,
  }
}

function backup(backupId: string, parent: string | null, disks: ManifestDisk[]): PublishedBackup {
  const manifest = { backup_id: backupId, parent_backup_id: parent, disks } as Manifest
  return { vmFolder, backupId, folder: `/repo/${backupId}`, manifest }
}

/** Only what the loader asks for. */
function repositoryOf(...backups: PublishedBackup[]): Repository {
  return {
    async getBackup({ backupId }) {
      const found = backups.find((candidate) => candidate.backupId === backupId)
      if (!found) throw new HoldfastError('BACKUP_NOT_FOUND', `no ${backupId}`)
      return found
    },
  } as Repository
}

const a = backup('a', null, [disk(0, null), disk(1, null)])
const b = backup('b', 'a', [disk(0, '../a/disk-1.qcow2'), disk(1, null)])
const c = backup('c', 'b', [disk(0, '../b/disk-0.qcow2'), disk(1, '../b/disk-1.qcow2')])

describe('links of a disk', () => {
  test('follow the backing names, also to another index, and stop at the disk that is a full', async () => {
    const chain = await loadChain(repositoryOf(a, b, c), { vmFolder, backupId: 'c' })
    const names = (index: number) =>
      linksOfDisk(chain, diskOf(chain.newest, index)).map((link) => `${link.folder}/${link.disk.file}`)
    expect(names(0)).toEqual(['/repo/a/disk-1.qcow2', '/repo/b/disk-0.qcow2', '/repo/c/disk-0.qcow2'])
    expect(names(1)).toEqual(['/repo/b/disk-1.qcow2', '/repo/c/disk-1.qcow2'])
  })

  test('that lead nowhere are a corrupt chain', async () => {
    const lost = backup('d', 'a', [disk(0, '../elsewhere/disk-0.qcow2')])
    const chain = await loadChain(repositoryOf(a, lost), { vmFolder, backupId: 'd' })
    expect(() => linksOfDisk(chain, diskOf(chain.newest, 0))).toThrow(/needs \.\.\/elsewhere/)
  })

  test('of a disk that the backup does not have', async () => {
    const { newest } = await loadChain(repositoryOf(a), { vmFolder, backupId: 'a' })
    expect(() => diskOf(newest, 7)).toThrow(/has no disk 7; it has 0, 1/)
  })
})

describe('loading', () => {
  test('a missing ancestor is a corrupt chain, a missing backup is not found', async () => {
    expect(await failureOf(loadChain(repositoryOf(c, b), { vmFolder, backupId: 'c' }))).toMatchObject({
      code: 'CORRUPT_CHAIN',
      details: { missing: 'a' },
    })
    expect((await failureOf(loadChain(repositoryOf(a), { vmFolder, backupId: 'z' }))).code).toBe('BACKUP_NOT_FOUND')
  })

  test('a chain that goes round in circles ends as corrupt', async () => {
    const one = backup('one', 'two', [disk(0, null)])
    const two = backup('two', 'one', [disk(0, null)])
    expect((await failureOf(loadChain(repositoryOf(one, two), { vmFolder, backupId: 'one' }))).code).toBe('CORRUPT_CHAIN')
  })
})
