/** A log file that cannot grow for ever: past its limit it becomes `<path>.1`, replacing an older one, and begins again. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'

const LIMIT_BYTES = 32 * 1024 * 1024

export class LogFile {
  readonly path: string
  readonly #limitBytes: number
  #descriptor: number
  #sizeBytes: number
  #closed = false

  constructor(path: string, limitBytes = LIMIT_BYTES) {
    this.path = path
    this.#limitBytes = limitBytes
    this.#descriptor = openSync(path, 'a', 0o600)
    this.#sizeBytes = fstatSync(this.#descriptor).size
  }

  /** Written before it returns, so that the last words of a crash are there. */
  write(text: string): void {
    // The pipe of a program that was just stopped may still hold a line.
    if (this.#closed) return
    if (this.#sizeBytes > this.#limitBytes) this.#rotate()
    this.#sizeBytes += writeSync(this.#descriptor, text)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.#descriptor)
  }

  #rotate(): void {
    closeSync(this.#descriptor)
    renameSync(this.path, `${this.path}.1`)
    this.#descriptor = openSync(this.path, 'a', 0o600)
    this.#sizeBytes = 0
  }
}
