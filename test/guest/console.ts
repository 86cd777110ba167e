/** What a guest says on its serial line, which libvirt writes to a file. */
import { readFile } from 'node:fs/promises'
import { vi } from 'vitest'

/** Emulated, on a machine that has other things to do. */
const patience = { timeout: 60_000, interval: 50 }

/** How long the guest needed for one file, `sync` included; hundredths of a second are all that it can tell. */
export interface SyncedFile {
  number: number
  tookMs: number
}

export class GuestConsole {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** Waits until the guest has said this, and returns what matched. `from`: leaves out so much of the beginning. */
  async awaits(words: RegExp, from = 0): Promise<RegExpExecArray> {
    return vi.waitFor(async () => {
      const all = (await this.text()).slice(from)
      const said = words.exec(all)
      if (said === null) throw new Error(`the guest has not said ${words}, but: ${all.slice(-1_000)}`)
      return said
    }, patience)
  }

  /** The files that are on its disk for good, in order; the guest says so after the `sync` of each. */
  async synced(): Promise<SyncedFile[]> {
    const lines = (await this.text()).matchAll(/^guest: synced (\d+) in (\d+) ms\r?$/gm)
    return [...lines].map(([, number, tookMs]) => ({ number: Number(number), tookMs: Number(tookMs) }))
  }

  async lastSynced(): Promise<number> {
    return (await this.synced()).at(-1)?.number ?? 0
  }

  /** Waits until so many more files are written: a guest that is frozen, or whose disk stalls, never gets there. */
  async advances(files: number): Promise<void> {
    const target = (await this.lastSynced()) + files
    await vi.waitFor(async () => {
      const last = await this.lastSynced()
      if (last < target) throw new Error(`the guest has synced ${last} files and not ${target}`)
    }, patience)
  }

  /** All that it has said; nothing before it was started. */
  text(): Promise<string> {
    return readFile(this.path, 'latin1').catch(() => '')
  }
}
