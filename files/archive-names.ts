/**
 * Names inside an archive. They lie below the archive's one top folder, whatever the disk says. What unpacks a zip on Windows takes backslashes for
 * separators, so that a file that is named `..\..\x` there would leave the folder: in zip they become U+F05C, as other programs do it. tar keeps them.
 */
import { HoldfastError } from '../domain/errors.ts'

export type ArchiveFormat = 'zip' | 'tar.gz'

/** The folder that everything is in; the root of a mount has no name of its own. */
export function topFolder(names: readonly string[]): string {
  return names.at(-1) ?? 'files'
}

/** The path inside the archive of what lies at `names` below the folder. */
export function archivePath(format: ArchiveFormat, top: string, names: readonly string[]): string {
  const all = [top, ...names]
  if (all.some((name) => name === '' || name === '.' || name === '..' || /[/\0]/.test(name))) {
    throw new HoldfastError('INTERNAL', `A name on the disk cannot stand in an archive: ${JSON.stringify(all.join('/'))}.`)
  }
  return format === 'zip' ? all.map(withoutSeparators).join('/') : all.join('/')
}

/** The second of the two: the library takes a word and a colon at the beginning for a drive, and leaves them out. */
function withoutSeparators(name: string, depth: number): string {
  const plain = name.replaceAll('\\', '\uf05c')
  return depth === 0 ? plain.replaceAll(':', '\uf03a') : plain
}
