/** Loop devices that the kernel holds on a file. They go with their last user, a moment after it. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { HoldfastError } from '../../domain/errors.ts'

const BLOCK_DEVICES = '/sys/block'
const GONE_MS = 10_000
const GONE_POLL_MS = 5

/** A loop device in use, for as long as the file system on it stays: the same name may be another one's later. */
export interface LoopDevice {
  name: string
  backingFile: string
}

/** `path` as the kernel knows it. */
export async function loopDevicesOf(path: string): Promise<LoopDevice[]> {
  const names = (await readdir(BLOCK_DEVICES)).filter((name) => name.startsWith('loop'))
  const devices = await Promise.all(names.map(async (name) => ({ name, backingFile: (await backingFileOf(name)) ?? '' })))
  return devices.filter(({ backingFile }) => backingFile === path)
}

/** Resolves when the kernel has given them back. `TOOL_TIMEOUT` when something holds one. */
export async function loopDevicesGone(devices: readonly LoopDevice[]): Promise<void> {
  const deadline = performance.now() + GONE_MS
  for (const { name, backingFile } of devices) {
    while (isOf(await backingFileOf(name), backingFile)) {
      if (performance.now() > deadline) {
        throw new HoldfastError('TOOL_TIMEOUT', `/dev/${name} is still in use ${GONE_MS} ms after its mount was closed.`, {
          details: { device: `/dev/${name}`, timeoutMs: GONE_MS },
        })
      }
      await delay(GONE_POLL_MS)
    }
  }
}

/** A file whose mount is gone is told by what is left of its path. */
function isOf(found: string | null, backingFile: string): boolean {
  return found !== null && (found === backingFile || found === '/' || backingFile.endsWith(found.replace(/ \(deleted\)$/, '')))
}

/** `null` when nothing is attached. */
async function backingFileOf(name: string): Promise<string | null> {
  return readFile(join(BLOCK_DEVICES, name, 'loop', 'backing_file'), 'utf8').then(
    (text) => text.trimEnd(),
    () => null,
  )
}
