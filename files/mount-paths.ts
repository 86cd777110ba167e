/** From the paths of a mount to what a reader takes: with one readable volume the root is its root, with several the first name is the volume. */
import { HoldfastError } from '../domain/errors.ts'
import { namesOfPath } from '../domain/file-path.ts'
import type { Volume } from '../domain/restore-mount.ts'

/** `volumes`: the root of a mount with several, which lists them. */
export type Place = { kind: 'volumes' } | { kind: 'inside'; volume: Volume; path: string }

/** `FILE_PATH_INVALID`, `FILE_NOT_FOUND` for a volume that the disk does not have, `FILE_SYSTEM_UNREADABLE` for one that cannot be read. */
export function locate(volumes: readonly Volume[], path: string): Place {
  const names = namesOfPath(path)
  const readable = volumes.filter(({ state }) => state === 'readable')
  const [first] = readable
  if (!first) throw nothingReadable(volumes)
  if (readable.length === 1) return { kind: 'inside', volume: first, path: names.join('/') }
  const [id, ...inside] = names
  if (id === undefined) return { kind: 'volumes' }
  const volume = volumes.find((candidate) => candidate.id === id)
  if (!volume) {
    throw new HoldfastError('FILE_NOT_FOUND', `The disk has no volume "${id}". Its volumes are ${idsOf(readable)}.`, {
      details: { path },
    })
  }
  if (volume.state !== 'readable') throw unreadable(volume)
  return { kind: 'inside', volume, path: inside.join('/') }
}

/** Of a volume that cannot be read, for people: "encrypted (crypto_LUKS)". */
export function describeUnreadable({ state, fileSystem, note }: Volume): string {
  const words = {
    encrypted: 'encrypted',
    swap: 'swap space',
    member: 'a part of other volumes',
    damaged: 'damaged',
    unknown: 'of a kind that is not known',
    readable: 'readable',
  }
  const kind = fileSystem === '' ? '' : ` (${fileSystem})`
  return `${words[state]}${kind}${note === '' ? '' : `: ${note}`}`
}

function unreadable(volume: Volume): HoldfastError {
  return new HoldfastError(
    'FILE_SYSTEM_UNREADABLE',
    `The volume "${volume.id}" cannot be read: it is ${describeUnreadable(volume)}.`,
    {
      details: { volume: volume.id, state: volume.state, file_system: volume.fileSystem },
    },
  )
}

function nothingReadable(volumes: readonly Volume[]): HoldfastError {
  const found = volumes.map((volume) => `"${volume.id}" is ${describeUnreadable(volume)}`).join('; ')
  return new HoldfastError('FILE_SYSTEM_UNREADABLE', `No volume of this disk can be read: ${found || 'there is none'}.`)
}

function idsOf(volumes: readonly Volume[]): string {
  return volumes.map(({ id }) => `"${id}"`).join(', ')
}
