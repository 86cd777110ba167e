/** Part of the drivers' suite: lists, ranges, what must not be followed or waited for, and the end of a mount. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Volume } from '../domain/restore-mount.ts'
import { MIB, noise } from '../test/disk-backups.ts'
import { linuxFiles, oddNames } from '../test/golden-disks/contents.ts'
import { contentOf, sha256Of } from '../test/golden-disks/found-tree.ts'
import { volumeOf, type Bench } from './conformance-bench.ts'
import { nameToBytes } from './file-names.ts'
import type { FileReader } from './file-reader.ts'
import type { RestoreMount } from './restore-mount.ts'

/** Of the whole disk's ext4. */
const SEED = 1
const PROMPT_MS = 20_000

export function describeFiles(bench: () => Bench): void {
  describe('files', () => {
    let mount: RestoreMount
    let reader: FileReader
    let volume: Volume
    beforeAll(async () => {
      mount = await bench().open(bench().disk('whole-disk'))
      reader = mount.reader
      volume = volumeOf(mount, 'disk')
    })
    afterAll(() => mount.close())
    const namesIn = async (path: string, page = { first: 0, most: 1_000 }): Promise<string[]> =>
      (await reader.list(volume, path, page)).entries.map(({ name }) => name)
    const code = (wanted: string): object => ({ code: wanted })

    it('sorts names by their bytes', async () => {
      const names = await namesIn('odd')
      expect(names).toHaveLength(oddNames.length)
      expect(names).toEqual(oddNames.toSorted((one, other) => Buffer.compare(nameToBytes(one), nameToBytes(other))))
    })

    it('gives pages, and their total also beyond the end', async () => {
      const all = await namesIn('')
      expect(await namesIn('', { first: 3, most: 4 })).toEqual(all.slice(3, 7))
      expect(await reader.list(volume, '', { first: 1_000_000, most: 5 })).toEqual({ total: all.length, entries: [] })
    })

    it('tells the same of one file as of its folder', async () => {
      for (const { name, status } of (await reader.list(volume, '', { first: 0, most: 1_000 })).entries) {
        expect(await reader.status(volume, name)).toEqual(status)
      }
      expect(await reader.status(volume, '')).toMatchObject({ kind: 'directory', mode: 0o755 })
    })

    it('finds files by odd names again', async () => {
      for (const [index, name] of oddNames.entries()) {
        expect((await contentOf(reader, volume, `odd/${name}`)).toString()).toBe(`odd ${index}\n`)
      }
    })

    it('gives ranges: at the beginning, in the middle, over the end, beyond it, and of nothing', async () => {
      const content = noise(3 * MIB + 12_345, SEED)
      for (const [offset, length] of [
        [0, 1],
        [1_234_567, MIB],
        [content.length - 5, 100],
        [content.length, 1],
        [9 * MIB, 10],
        [7, 0],
      ] as const) {
        const found = await contentOf(reader, volume, 'noise.bin', { offset, length })
        expect([offset, length, found.equals(content.subarray(offset, offset + length))]).toEqual([offset, length, true])
      }
      expect(await contentOf(reader, volume, 'empty')).toHaveLength(0)
    })

    it('reads pieces of up to 2 MiB, and several files at once', async () => {
      for await (const piece of reader.read(volume, 'noise.bin', { offset: 0, length: 4 * MIB }))
        expect(piece.length).toBeLessThanOrEqual(2 * MIB)
      const digests = await Promise.all(Array.from({ length: 12 }, () => sha256Of(reader, volume, 'sparse')))
      expect(new Set(digests).size).toBe(1)
    })

    it('goes on after somebody left in the middle of a file, and when it is told to stop', async () => {
      for await (const piece of reader.read(volume, 'sparse', { offset: 0, length: 24 * MIB })) {
        expect(piece.length).toBeGreaterThan(0)
        break
      }
      const stop = AbortSignal.abort(new Error('enough'))
      await expect(reader.status(volume, 'twin', stop)).rejects.toThrow('enough')
      await expect(reader.list(volume, '', { first: 0, most: 1 }, stop)).rejects.toThrow('enough')
      expect(await contentOf(reader, volume, 'one-byte')).toEqual(Buffer.from('x'))
    })

    it('leads nowhere outside', async () => {
      for (const path of ['..', '../etc/passwd', 'folder/../../etc/passwd', '/etc/passwd', './../etc', 'folder/inner/../..']) {
        await expect(reader.status(volume, path)).rejects.toMatchObject(code('FILE_NOT_FOUND'))
        await expect(reader.list(volume, path, { first: 0, most: 5 })).rejects.toMatchObject(code('FILE_NOT_FOUND'))
        await expect(contentOf(reader, volume, path)).rejects.toMatchObject(code('FILE_NOT_FOUND'))
      }
    })

    it('tells where symbolic links point, and follows none', async () => {
      const links = linuxFiles(SEED).filter(({ kind }) => kind === 'symlink')
      expect(links.length).toBeGreaterThan(4)
      for (const { path, target } of links) {
        expect(await reader.status(volume, path)).toMatchObject({ kind: 'symlink', target })
        await expect(contentOf(reader, volume, path)).rejects.toMatchObject(code('NOT_A_FILE'))
        await expect(reader.list(volume, path, { first: 0, most: 5 })).rejects.toMatchObject(code('NOT_A_DIRECTORY'))
        await expect(reader.status(volume, `${path}/deepest`)).rejects.toMatchObject(code('NOT_A_DIRECTORY'))
        await expect(contentOf(reader, volume, `${path}/passwd`)).rejects.toMatchObject(code('NOT_A_DIRECTORY'))
      }
    })

    it('does not wait for pipes, nor open devices and sockets', { timeout: PROMPT_MS }, async () => {
      for (const path of ['pipe', 'socket', 'zeroes', 'the disk itself', 'folder', '']) {
        await expect(contentOf(reader, volume, path)).rejects.toMatchObject(code('NOT_A_FILE'))
      }
      await expect(reader.list(volume, 'pipe', { first: 0, most: 1 })).rejects.toMatchObject(code('NOT_A_DIRECTORY'))
    })

    it('tells apart what is not there and what is no folder', async () => {
      await expect(reader.status(volume, 'nowhere')).rejects.toMatchObject(code('FILE_NOT_FOUND'))
      await expect(contentOf(reader, volume, 'folder/nowhere')).rejects.toMatchObject(code('FILE_NOT_FOUND'))
      await expect(reader.list(volume, 'empty', { first: 0, most: 1 })).rejects.toMatchObject(code('NOT_A_DIRECTORY'))
      await expect(reader.status(volume, 'empty/below')).rejects.toMatchObject(code('NOT_A_DIRECTORY'))
    })

    // The last one: nothing can be read afterwards.
    it('ends what runs when it is closed, and closes twice', async () => {
      const reading = contentOf(reader, volume, 'sparse').catch((error: unknown) => error)
      await Promise.all([mount.close(), mount.close()])
      expect(await reading).toMatchObject(code('MOUNT_INTERRUPTED'))
      await mount.close()
      await expect(reader.status(volume, 'twin')).rejects.toMatchObject(code('MOUNT_INTERRUPTED'))
      await expect(reader.list(volume, '', { first: 0, most: 1 })).rejects.toMatchObject(code('MOUNT_INTERRUPTED'))
      await expect(contentOf(reader, volume, 'twin')).rejects.toMatchObject(code('MOUNT_INTERRUPTED'))
    })
  })
}
