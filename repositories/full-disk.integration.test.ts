/** An ext4 without a free block, not even for root: nothing can be written there, but backups can be deleted. */
import { readdir, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { requireTool } from '../test/requires.ts'
import { createSmallDisk } from '../test/small-disk.ts'
import type { SmallDisk } from '../test/small-disk.ts'
import { LocalRepository } from './local.ts'
import { publishSample, sampleReference, sampleVmFolder, stageSample } from './sample-backup.ts'

requireTool('mkfs.ext4')

const MIB = 1024 * 1024
const [first, second] = [sampleReference(1), sampleReference(2)]

let disk: SmallDisk
let repository: LocalRepository
beforeEach(async () => {
  disk = await createSmallDisk(48 * MIB)
  repository = new LocalRepository('repo-test', disk.path)
  await repository.initialize()
})
afterEach(() => disk?.remove())

const reserveBytes = () =>
  stat(join(disk.path, 'holdfast-reserve')).then(
    ({ size }) => size,
    () => 0,
  )

/** Empty files need no block of their own, but their names do: until no part of the folder takes another one. */
async function fillDirectory(folder: string): Promise<void> {
  for (const length of [200, 40, 10]) {
    for (let index = 0; index < 100; index++) {
      await writeFile(join(folder, String(index).padStart(length, '-')), '').catch(() => {
        // By the hash of its name each file has its part of the folder: others may have room.
      })
    }
  }
}

it('deletes a backup whose folder cannot even be renamed, by giving back what was set aside', async () => {
  await publishSample(repository, first)
  const vmFolder = join(disk.path, 'vms', sampleVmFolder)
  const setAside = await reserveBytes()
  expect(setAside).toBeGreaterThan(0)
  await disk.fill()
  await fillDirectory(vmFolder)
  expect((await statfs(disk.path)).bfree).toBe(0)
  await repository.deleteBackup(first)
  expect(await repository.listBackups()).toEqual({ backups: [], damaged: [], staged: [] })
  expect((await readdir(vmFolder)).filter((name) => name.includes(first.backupId))).toEqual([])
})

it('could not do so without', async () => {
  const published = await publishSample(repository, first)
  await repository.releaseReserve()
  const filler = await disk.fill()
  await fillDirectory(join(disk.path, 'vms', sampleVmFolder))
  await expect(repository.deleteBackup(first)).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE' })
  expect((await repository.listBackups()).backups).toEqual([published])
  await writeFile(filler, '')
  await repository.deleteBackup(first)
})

it('discards what was staged, too, and publishes nothing meanwhile', async () => {
  const manifest = await stageSample(repository, second)
  await disk.fill()
  await fillDirectory(join(disk.path, 'vms', sampleVmFolder))
  // Its disks are there, its manifest finds no room.
  const large = { ...manifest, vm: { ...manifest.vm, config: { definition: 'x'.repeat(64 * 1024) } } }
  await expect(repository.publishBackup(second, large)).rejects.toMatchObject({ code: 'INSUFFICIENT_STORAGE' })
  await repository.discardBackup(second)
  expect(await repository.listBackups()).toEqual({ backups: [], damaged: [], staged: [] })
})

it('sets nothing aside while it is nearly full, and does again when there is room', async () => {
  await repository.releaseReserve()
  await disk.fill()
  await repository.keepReserve()
  expect(await reserveBytes()).toBe(0)
  await writeFile(join(disk.path, 'filler'), '')
  await repository.keepReserve()
  expect(await reserveBytes()).toBeGreaterThan(0)
})
