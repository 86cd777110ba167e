/** What a guest says on its serial line, which libvirt writes to a file. */
import { readFile } from 'node:fs/promises'
import { expect } from 'vitest'

/** Emulated, on a machine that has other things to do. */
const PATIENCE_MS = 60_000

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

  /** Waits until the guest has said this, and returns what matched. */
  async awaits(words: RegExp): Promise<RegExpExecArray> {
    let said: RegExpExecArray | null = null
    const look = async (): Promise<boolean> => (said = words.exec(await this.text())) !== null
    await expect.poll(look, { timeout: PATIENCE_MS, interval: 50, message: `the guest never said ${words}` }).toBe(true)
    return said!
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
    await expect.poll(() => this.lastSynced(), { timeout: PATIENCE_MS, interval: 50 }).toBeGreaterThanOrEqual(target)
  }

  /** All that it has said; nothing before it was started. */
  text(): Promise<string> {
    return readFile(this.path, 'latin1').catch(() => '')
  }
}
