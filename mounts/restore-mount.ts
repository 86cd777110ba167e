/** A disk of a backup, opened for reading files: the exported chain and the reader on it. */
import type { HoldfastError, JsonObject } from '../domain/errors.ts'
import type { DriverName } from '../domain/restore-mount.ts'
import type { ChainLink } from '../disks/chain.ts'
import type { FileReader } from './file-reader.ts'

export interface MountRequest {
  mountId: string
  /** The disk's chain, oldest first. */
  links: readonly ChainLink[]
  /** Instead of `checkChain` of `disks/`, which looks at the files from this process: for a chain on a share that may not answer. */
  checkChain?: ((links: readonly ChainLink[]) => Promise<JsonObject>) | undefined
}

export interface RestoreMount {
  readonly mountId: string
  readonly driver: DriverName
  readonly reader: FileReader
  /** Absolute path of the exported file, or of the block device, as this host's root can open it. */
  readonly device: string
  /** Absolute path of the folder where the mount keeps what it needs; the `kernel` drivers' file systems lie below it. */
  readonly folder: string
  /** Settles with the reason when the exporter or the reader is gone although nobody closed the mount; by then everything of it has been ended. */
  readonly failed: Promise<HoldfastError>
  /** Ends every process of it and waits until nothing of it is left. Idempotent. */
  close(): Promise<void>
}

/**
 * Opens the disk. `CORRUPT_CHAIN`, `REPO_UNAVAILABLE`, `TOOL_MISSING`, `TOOL_FAILED`, `TOOL_TIMEOUT`, `MOUNT_DRIVER_UNAVAILABLE` (not turned on, or
 * the host lacks something; says what), `FILE_SYSTEM_UNREADABLE` when no volume can be read, with what was found instead. On failure nothing is left.
 */
export type OpenRestoreMount = (request: MountRequest, signal?: AbortSignal) => Promise<RestoreMount>
