/** The names of folders, read and sorted once and kept for the pages that follow: nothing on a mount changes. */
import { readdir } from 'node:fs/promises'

export class FolderNames {
  readonly #most: number
  #total = 0
  /** By folder, the one used last at the end. */
  readonly #kept = new Map<string, readonly string[]>()
  readonly #reading = new Map<string, Promise<readonly string[]>>()

  /** `most`: names kept altogether; those of the last folder are kept however many there are. */
  constructor(most: number) {
    this.#most = most
  }

  /**
   * In the order of their bytes, one character (U+0000 to U+00FF) for each byte. `key` names the folder, `path` is where it is now. Rejects with the
   * kernel's error.
   */
  read(key: string, path: string): Promise<readonly string[]> {
    const kept = this.#kept.get(key)
    if (kept) {
      this.#kept.delete(key)
      this.#kept.set(key, kept)
      return Promise.resolve(kept)
    }
    const reading = this.#reading.get(key) ?? this.#readAndKeep(key, path)
    this.#reading.set(key, reading)
    return reading
  }

  async #readAndKeep(key: string, path: string): Promise<readonly string[]> {
    try {
      const names = await sortedNames(path)
      this.#kept.set(key, names)
      this.#total += names.length
      this.#forgetOldest()
      return names
    } finally {
      this.#reading.delete(key)
    }
  }

  #forgetOldest(): void {
    for (const [key, names] of this.#kept) {
      if (this.#total <= this.#most || this.#kept.size === 1) return
      this.#kept.delete(key)
      this.#total -= names.length
    }
  }
}

/** Text of one byte per character takes the least memory, and sorts by bytes as it is. */
async function sortedNames(path: string): Promise<readonly string[]> {
  const names = await readdir(path, { encoding: 'latin1' })
  return names.sort()
}
