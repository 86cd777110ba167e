/** What the drivers of the host's kernel need of the host. */
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { HoldfastError } from '../../domain/errors.ts'
import type { DriverName } from '../../domain/restore-mount.ts'

/** `MOUNT_DRIVER_UNAVAILABLE`. */
export async function requireLoopMounts(driver: DriverName): Promise<void> {
  if (process.getuid?.() !== 0) throw unavailable(driver, 'mounts need a mover that runs as root')
  try {
    await access('/dev/loop-control', constants.R_OK | constants.W_OK)
  } catch (error) {
    throw unavailable(
      driver,
      'this host has no loop devices: load the kernel module "loop"; in a container, pass the devices on',
      error,
    )
  }
}

/** Says what the host lacks, and what works without. */
export function unavailable(driver: DriverName, why: string, cause?: unknown): HoldfastError {
  const message = `The driver "${driver}" cannot be used here: ${why}. Or set HOLDFAST_MOUNT_DRIVER to "user-mode-linux", which needs none of that.`
  return new HoldfastError('MOUNT_DRIVER_UNAVAILABLE', message, { cause })
}
