/** A guest that never stops writing, and what its disks held after each of its writes. */
import type { TestDomain } from './libvirt-domain.ts'

interface Write {
  disk: number
  offset: number
  length: number
  /** What the range holds afterwards. */
  value: number
}

const CLUSTER = 65_536

/** Writes, overwrites, zeroes and discards on all disks in turn, one after the other, until it is stopped. */
export class DomainWriter {
  /** In the order in which they were made; the last may be under way. */
  readonly writes: Write[] = []
  /** How many of them have ended. */
  done = 0
  private readonly domain: TestDomain
  private readonly sizesBytes: readonly number[]
  private stopping = false
  private running: Promise<void> | null = null

  constructor(domain: TestDomain, sizesBytes: readonly number[]) {
    this.domain = domain
    this.sizesBytes = sizesBytes
  }

  /** Writes on and on, without discards. */
  start(): void {
    this.stopping = false
    this.running = this.run()
  }

  /** Throws what a write threw. */
  async stop(): Promise<void> {
    this.stopping = true
    await this.running
  }

  async write(count: number, options: { discarding: boolean }): Promise<void> {
    for (let made = 0; made < count; made += 1) await this.writeOne(options)
  }

  /** What the disks held after the first `count` writes. */
  contentAfter(count: number): Buffer[] {
    const disks = this.sizesBytes.map((size) => Buffer.alloc(size))
    for (const { disk, offset, length, value } of this.writes.slice(0, count)) disks[disk]?.fill(value, offset, offset + length)
    return disks
  }

  /** After how many writes, at least `from` and at most `to`, the disks held this, all of them at once; -1: never. */
  instantOf(disks: readonly Buffer[], from: number, to: number): number {
    for (let count = from; count <= to; count += 1) {
      if (this.contentAfter(count).every((content, disk) => disks[disk]?.equals(content))) return count
    }
    return -1
  }

  private async run(): Promise<void> {
    while (!this.stopping) await this.writeOne({ discarding: false })
  }

  private async writeOne({ discarding }: { discarding: boolean }): Promise<void> {
    const number = this.writes.length
    const disk = number % this.sizesBytes.length
    const clusters = (this.sizesBytes[disk] ?? 0) / CLUSTER
    // Spread over the disk, and back again to what was written before.
    const offset = ((number * 7) % clusters) * CLUSTER
    const length = Math.min(CLUSTER * (1 + (number % 3)), (this.sizesBytes[disk] ?? 0) - offset)
    const kind = number % 5 === 0 ? 'zero' : number % 5 === 1 && discarding ? 'discard' : 'write'
    const value = kind === 'write' ? (number % 255) + 1 : 0
    const command = { zero: 'write -z -u', discard: 'discard', write: `write -P ${value}` }[kind]
    this.writes.push({ disk, offset, length, value })
    await this.domain.qemuIo(disk, `${command} ${offset} ${length}`)
    this.done += 1
  }
}
