/** Reading and writing whole ranges of a file. The operating system may do less than asked, a full disk for one: that must never pass unseen. */
import type { FileHandle } from 'node:fs/promises'
import { HoldfastError } from '../domain/errors.ts'

/** Writes all of `bytes` at `position`. Throws what the file system throws, `ENOSPC` included; then a part may have been written. */
export async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    if (bytesWritten === 0) throw new HoldfastError('DISK_WRITE_FAILED', 'The file system took none of the bytes it was given.')
    done += bytesWritten
  }
}

/** Fills `into` from `position` on and returns how much there was: less than asked only at the end of the file. */
export async function readFully(file: FileHandle, into: Uint8Array, position: number): Promise<number> {
  let done = 0
  while (done < into.length) {
    const { bytesRead } = await file.read(into, done, into.length - done, position + done)
    if (bytesRead === 0) return done
    done += bytesRead
  }
  return done
}
