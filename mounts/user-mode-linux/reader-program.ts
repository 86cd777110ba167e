/** What the reader is made of, prepared once per process. */
import { existsSync } from 'node:fs'
import { makeInitramfs } from './initramfs.ts'
import { sandboxPrograms } from './sandbox.ts'

export interface ReaderFiles {
  /** Host path. */
  initramfs: string
  /** Host paths of the programs and libraries of the sandbox. */
  programs: readonly string[]
}

export class ReaderProgram {
  readonly #cacheFolder: string
  #files: Promise<ReaderFiles> | null = null

  constructor(cacheFolder: string) {
    this.#cacheFolder = cacheFolder
  }

  /** Again only when the last time failed, or somebody has emptied the cache. `TOOL_MISSING` names the package to install. */
  async prepare(): Promise<ReaderFiles> {
    const files = await this.#files?.catch(() => null)
    if (files && existsSync(files.initramfs)) return files
    this.#files = this.#make()
    return this.#files
  }

  async #make(): Promise<ReaderFiles> {
    return { initramfs: await makeInitramfs(this.#cacheFolder), programs: await sandboxPrograms() }
  }
}
