/** Whether two places are one, or lie in each other: two repositories there would list and delete each other's files. */
import type { RepositoryType } from './backup.ts'
import { checkPlace, placeKey } from './repository-place.ts'
import type { RepositoryPlace } from './repository-place.ts'

/** Folders belong to a host; a share is the same share from everywhere. */
export interface PlaceOfHost {
  type: RepositoryType
  hostId: string
  config: Readonly<Record<string, unknown>>
}

/** `INVALID_REQUEST` when a configuration is not valid. */
export function overlapOf(one: PlaceOfHost, other: PlaceOfHost): 'same' | 'nested' | null {
  const [first, second] = [checkPlace(one.type, one.config), checkPlace(other.type, other.config)]
  if (first.type === 'local' && one.hostId !== other.hostId) return null
  if (placeKey(one.type, one.config) === placeKey(other.type, other.config)) return 'same'
  return lieInEachOther(first, second) ? 'nested' : null
}

function lieInEachOther(one: RepositoryPlace, other: RepositoryPlace): boolean {
  const [first, second] = [folderOf(one), folderOf(other)]
  if (first === null || second === null || first.of !== second.of) return false
  return liesIn(first.path, second.path) || liesIn(second.path, first.path)
}

/** Two shares of one CIFS server may lie in each other, too, but their names do not say so: there the marker tells. */
function folderOf(place: RepositoryPlace): { of: string; path: string } | null {
  if (place.type === 'local') return { of: 'local', path: place.config.path }
  if (place.type === 'nfs') return { of: `nfs:${place.config.server}`, path: place.config.export_path }
  return null
}

/** Whether `path` is `folder` or lies in it. Both normal and absolute. */
export function liesIn(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`)
}
