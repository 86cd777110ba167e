/** What the parts of the drivers' suite work with. */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import type { Volume } from '../domain/restore-mount.ts'
import { backUpImage } from '../test/disk-backups.ts'
import type { GoldenDisk } from '../test/golden-disks/golden-disk.ts'
import type { OpenRestoreMount, RestoreMount } from './restore-mount.ts'

/** What a driver can do depends on the kernel that does it. */
export interface DriverSkills {
  /** Whether it tells of this volume that it is readable, when it is. */
  reads(fileSystem: string): boolean
  /** RAID, LVM and btrfs on several devices. */
  volumeManagers: boolean
  /** Sees what only a journal holds. */
  journals: boolean
}

export interface Bench {
  skills: DriverSkills
  folder: string
  openMount: OpenRestoreMount
  disk(name: string): GoldenDisk
  /** Backs the image up and mounts that. */
  open(disk: Pick<GoldenDisk, 'name' | 'path' | 'sizeBytes'>): Promise<RestoreMount>
}

export function benchOf(folder: string, disks: readonly GoldenDisk[], skills: DriverSkills, openMount: OpenRestoreMount): Bench {
  return {
    skills,
    folder,
    openMount,
    disk: (name) => disks.find((disk) => disk.name === name)!,
    async open({ name, path, sizeBytes }) {
      const { links } = await backUpImage({
        folder: join(folder, 'backups'),
        backupId: `${name}-${randomUUID()}`,
        imagePath: path,
        sizeBytes,
      })
      return openMount({ mountId: randomUUID(), links })
    },
  }
}

/** The volume of a mounted disk by its id. */
export function volumeOf({ reader }: RestoreMount, id: string): Volume {
  const volume = reader.volumes.find((one) => one.id === id)
  if (!volume) throw new TypeError(`there is no volume "${id}", but: ${reader.volumes.map((one) => one.id).join(', ')}`)
  return volume
}
