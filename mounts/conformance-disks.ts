/** Part of the drivers' suite: damaged disks, extreme ones, chains of backups, and disks without a file system. */
import { cp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { runTool } from '../tools/run-tool.ts'
import type { ChainLink } from '../disks/chain.ts'
import { backUpImage, MIB, noise } from '../test/disk-backups.ts'
import { addFile, damageFolder, damageInode } from '../test/golden-disks/ext4-damage.ts'
import { contentOf, sha256Of, treeFound } from '../test/golden-disks/found-tree.ts'
import type { GoldenEntry } from '../test/golden-disks/planned-file.ts'
import { volumeOf, type Bench } from './conformance-bench.ts'
import type { RestoreMount } from './restore-mount.ts'

/** The promise is 2 s; the machine of the tests does other things at the same time. */
const FIRST_PAGE_MS = 6_000
const INCREMENTS = 10
/** Of the disks that have a table, in bytes. */
const FIRST_PARTITION = 2 * MIB

export function describeDamage(bench: () => Bench): void {
  it('gives an error for what is damaged, and serves the rest', async () => {
    const golden = bench().disk('whole-disk')
    const path = join(bench().folder, 'damaged.raw')
    await cp(golden.path, path)
    // As hostile as it can be: the kernel should stop on the first error.
    await runTool('tune2fs', ['-e', 'panic', path], { timeoutMs: 30_000 })
    await damageInode(path, '/one-byte')
    await damageFolder(path, '/folder/inner')
    const mount = closedInTheEnd(await bench().open({ ...golden, name: 'damaged', path }))
    const { reader } = mount
    const volume = volumeOf(mount, 'disk')

    const { entries } = await reader.list(volume, '', { first: 0, most: 1_000 })
    expect(entries.find(({ name }) => name === 'one-byte')).toMatchObject({
      status: null,
      problem: 'its checksum is wrong',
    })
    expect(entries.filter(({ status }) => status === null)).toHaveLength(1)
    await expect(contentOf(reader, volume, 'one-byte')).rejects.toMatchObject({ code: 'FILE_READ_FAILED' })
    await expect(reader.status(volume, 'one-byte')).rejects.toMatchObject({ code: 'FILE_READ_FAILED' })
    await expect(reader.list(volume, 'folder/inner', { first: 0, most: 10 })).rejects.toMatchObject({ code: 'FILE_READ_FAILED' })
    const sound = golden.volumes[0]!.entries!.filter(
      ({ path: name, sha256 }) => sha256 !== null && name !== 'one-byte' && !name.startsWith('folder/inner/'),
    )
    for (const { path: name, sha256 } of sound) expect([name, await sha256Of(reader, volume, name)]).toEqual([name, sha256])
  })
}

export function describeExtremes(bench: () => Bench, many: number, levels: number): void {
  it(`gives the first page of ${many} files soon, and reads below ${levels} folders`, async () => {
    const mount = closedInTheEnd(await bench().open(bench().disk('extreme')))
    const { reader } = mount
    const volume = volumeOf(mount, 'disk')
    const started = performance.now()
    const page = await reader.list(volume, 'many', { first: 0, most: 1_000 })
    expect(performance.now() - started).toBeLessThan(FIRST_PAGE_MS)
    expect(page).toMatchObject({ total: many })
    expect(page.entries.map(({ name }) => name).slice(0, 3)).toEqual(['file-1', 'file-10', 'file-100'])
    expect((await reader.list(volume, 'many', { first: many - 2, most: 1_000 })).entries.map(({ name }) => name)).toEqual([
      'file-99998',
      'file-99999',
    ])

    const bottom = Array.from({ length: levels }, () => 'd').join('/')
    expect((await contentOf(reader, volume, `${bottom}/bottom`)).toString()).toBe('deep\n')
    expect((await reader.list(volume, bottom, { first: 0, most: 10 })).entries.map(({ name }) => name)).toEqual(['bottom'])
  })
}

/** Makes sure that the suite tests something. */
export function describeJournals(bench: () => Bench): void {
  it('has a disk whose files are only in a journal', async () => {
    const { stdout } = await runTool('debugfs', ['-R', 'ls /', `${bench().disk('dirty').path}?offset=${FIRST_PARTITION}`], {
      timeoutMs: 30_000,
    })
    expect(stdout).toContain('lost+found')
    expect(stdout).not.toContain('noise.bin')
  })
}

/** Each increment adds a file. */
export function describeChains(bench: () => Bench): void {
  it(`reads a full, its increment and a chain of ${INCREMENTS} as the disk was then`, async () => {
    const golden = bench().disk('whole-disk')
    const path = join(bench().folder, 'chain.raw')
    await cp(golden.path, path)
    const backUp = async (number: number, parent: readonly ChainLink[]): Promise<ChainLink[]> => {
      const content = join(bench().folder, `generation-${number}`)
      await writeFile(content, noise(50_000, number))
      await addFile(path, `generation-${number}`, content)
      const backup = {
        folder: join(bench().folder, 'chain'),
        backupId: `backup-${number}`,
        imagePath: path,
        sizeBytes: golden.sizeBytes,
        parent,
      }
      return (await backUpImage(backup)).links
    }
    let links: ChainLink[] = []
    for (let number = 0; number <= INCREMENTS; number++) links = await backUp(number, links)

    for (const length of [1, 2, INCREMENTS + 1]) {
      const mount = closedInTheEnd(await bench().openMount({ mountId: crypto.randomUUID(), links: links.slice(0, length) }))
      const volume = volumeOf(mount, 'disk')
      const tree = await treeFound(mount.reader, volume, golden.volumes[0]!.entries!)
      const added = tree.filter((entry) => entry.path.startsWith('generation-'))
      expect(added).toHaveLength(length)
      for (let number = 0; number < length; number++) {
        expect((await contentOf(mount.reader, volume, `generation-${number}`)).equals(noise(50_000, number))).toBe(true)
      }
      const digests = (entries: readonly GoldenEntry[]): Map<string, string | null> =>
        new Map(entries.map(({ path: name, sha256 }) => [name, sha256]))
      expect(digests(tree.filter((entry) => !added.includes(entry)))).toEqual(digests(golden.volumes[0]!.entries!))
      await mount.close()
    }
  })
}

export function describeUnreadable(bench: () => Bench): void {
  it('refuses a disk without a file system', async () => {
    await expect(bench().open(bench().disk('noise'))).rejects.toMatchObject({ code: 'FILE_SYSTEM_UNREADABLE' })
  })
}

function closedInTheEnd(mount: RestoreMount): RestoreMount {
  onTestFinished(() => mount.close())
  return mount
}
