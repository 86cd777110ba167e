/** Whether folders lie within each other, whatever their paths say. Nothing that may hang is touched. */
import { join, relative } from 'node:path'
import { liesIn } from '../domain/repository-overlap.ts'
import { mountOver, readMountInfo, type MountEntry } from '../tools/mount-info.ts'
import { placeOf } from './hanging-file-systems.ts'

/** Whether one of two folders lies within the other, through links and bound mounts, too. Of what is not there yet, where it would be. Paths are absolute. */
export async function oneLiesWithin(one: string, other: string): Promise<boolean> {
  const entries = await readMountInfo()
  const [first, second] = [await whereItLies(entries, one), await whereItLies(entries, other)]
  if (first === null || first.device !== second?.device || first.path === second.path) return false
  return liesIn(first.path, second.path) || liesIn(second.path, first.path)
}

/** The file system, and the path within it. */
async function whereItLies(entries: readonly MountEntry[], path: string): Promise<{ device: string; path: string } | null> {
  const { path: reached } = await placeOf(path)
  const mount = mountOver(entries, reached)
  if (mount === null) return null
  return { device: mount.device, path: join(mount.root, relative(mount.mountPoint, reached)) }
}
