/** Names of what a backup leaves on the hypervisor's host while it runs; whoever finds one knows whose it is. */
import { HoldfastError } from '../../domain/errors.ts'
import { SOCKET_PATH_MAX_BYTES } from '../../tools/qemu-nbd.ts'
import type { LibvirtConnection } from './connection.ts'

const PREFIX = 'holdfast-'

/** Name of a backup's checkpoint, which is its disks' change ID, and beginning of its files' names. */
export function checkpointName(backupId: string): string {
  return `${PREFIX}${backupId}`
}

/** Whose a checkpoint is: another installation, or another connection of this one, may back the same VM up. */
export function checkpointDescription({ sourceId }: Pick<LibvirtConnection, 'sourceId'>): string {
  return `Holdfast, source connection ${sourceId}: incremental backups start from here`
}

/** The backup that a checkpoint belongs to; `null` when it is not one of ours. */
export function backupOfCheckpoint(name: string): string | null {
  return name.startsWith(PREFIX) && name.length > PREFIX.length ? name.slice(PREFIX.length) : null
}

/** `SOURCE_INVALID` when the folder's name leaves no room for a socket's. */
export function socketPath(connection: LibvirtConnection, backupId: string): string {
  const path = `${connection.scratchFolder}/${checkpointName(backupId)}.sock`
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX_BYTES) return path
  throw new HoldfastError(
    'SOURCE_INVALID',
    `The path "${path}" is too long for a socket (at most ${SOCKET_PATH_MAX_BYTES} bytes). Give the source connection a "scratch_folder" with a shorter name.`,
    { details: { folder: connection.scratchFolder } },
  )
}

export function scratchPath(connection: LibvirtConnection, backupId: string, target: string): string {
  return `${connection.scratchFolder}/${checkpointName(backupId)}-${target}.scratch`
}

/** The backup whose socket this is; `null` when it is not one of ours. */
export function backupOfSocket(path: string): string | null {
  return /\/holdfast-([^/]+)\.sock$/.exec(path)?.[1] ?? null
}

/** Whether a file of the scratch folder is this backup's. An id can be the beginning of another id. */
export function isFileOfBackup(name: string, backupId: string): boolean {
  const own = checkpointName(backupId)
  if (name === `${own}.sock`) return true
  return name.startsWith(`${own}-`) && /^[^-]+\.(scratch|nbd)$/.test(name.slice(own.length + 1))
}

/** The backup that a file of the scratch folder may belong to; `null` when its name is none that we give. */
export function backupOfFile(name: string): string | null {
  return /^holdfast-(.+)(?:\.sock|-[^-]+\.(?:scratch|nbd))$/.exec(name)?.[1] ?? null
}
