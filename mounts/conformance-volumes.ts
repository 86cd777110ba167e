/** Part of the drivers' suite: the volumes of a disk, and everything on them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GoldenVolume } from '../test/golden-disks/golden-disk.ts'
import { byPath, treeFound } from '../test/golden-disks/found-tree.ts'
import type { Bench, DriverSkills } from './conformance-bench.ts'
import type { RestoreMount } from './restore-mount.ts'

/** Mounts the disk once. */
export function describeVolumes(name: string, bench: () => Bench): void {
  describe(`disk ${name}`, () => {
    let mount: RestoreMount | undefined
    beforeAll(async () => {
      mount = await bench().open(bench().disk(name))
    })
    afterAll(() => mount?.close())

    it('lists what is on it', () => {
      const golden = bench().disk(name).volumes
      const found = mount!.reader.volumes
      expect(found.map(({ id }) => id)).toEqual(expect.arrayContaining(golden.map(({ id }) => id)))
      expect(found).toHaveLength(golden.length)
      for (const volume of golden) {
        const { note, ...told } = found.find(({ id }) => id === volume.id)!
        expect(told).toMatchObject(wanted(volume, bench().skills))
        expect(note).toMatch(wantedNote(volume, bench().skills))
      }
      for (const { sizeBytes } of found) expect(sizeBytes).toBeGreaterThan(0)
    })

    it('gives every file of every volume as it was written', async () => {
      const readable = mount!.reader.volumes.filter(({ state }) => state === 'readable')
      expect(readable).not.toEqual([])
      for (const volume of readable) {
        const entries =
          bench()
            .disk(name)
            .volumes.find(({ id }) => id === volume.id)?.entries ?? []
        expect({ id: volume.id, tree: await treeFound(mount!.reader, volume, entries) }).toEqual({
          id: volume.id,
          tree: sized(byPath(entries)),
        })
      }
    })
  })
}

function wanted({ id, state, fileSystem, label }: GoldenVolume, skills: DriverSkills): object {
  const told = { id, fileSystem, ...(label === undefined ? {} : { label }) }
  return isTold({ state, fileSystem }, skills) ? { ...told, state } : told
}

function wantedNote({ state, fileSystem, note = /^$/ }: GoldenVolume, skills: DriverSkills): RegExp {
  return isTold({ state, fileSystem }, skills) ? note : /(?:)/
}

/** What a driver that cannot read a volume says of it is its own affair. */
function isTold({ state, fileSystem }: Pick<GoldenVolume, 'state' | 'fileSystem'>, skills: DriverSkills): boolean {
  return state !== 'readable' || skills.reads(fileSystem)
}

/** Nothing but files has a size. */
function sized<T extends { kind: string; sizeBytes: number }>(entries: readonly T[]): T[] {
  return entries.map((entry) => (entry.kind === 'file' ? entry : { ...entry, sizeBytes: 0 }))
}
