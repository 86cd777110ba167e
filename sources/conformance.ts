/**
 * What every source must do. A new member brings a harness that can make a VM, change its disks behind the source's back, and read them
 * without the source; the suite then copies the VM as a backup would, and compares.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NbdPool } from '../disks/nbd/nbd-pool.ts'
import { STATE_DIRTY } from '../disks/nbd/protocol.ts'
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import type { ErrorCode, JsonObject } from '../domain/errors.ts'
import type { OpenDisk, Snapshot, SnapshotEnd, Source } from './source.ts'

/** A VM that a test made. Disks are named by their position. */
export interface TestVm {
  config: JsonObject
  write(disk: number, offset: number, data: Buffer): Promise<void>
  /** As a guest's WRITE ZEROES. */
  zero(disk: number, offset: number, length: number): Promise<void>
  /** As a guest's TRIM of a disk that reads as zeroes after it. */
  discard(disk: number, offset: number, length: number): Promise<void>
  /** All bytes of the disk, read without the source: the oracle. */
  content(disk: number): Promise<Buffer>
  /** Returns the new configuration. */
  addDisk(sizeBytes: number): Promise<JsonObject>
  growDisk(disk: number, sizeBytes: number): Promise<void>
  /** The VM and its disks are gone afterwards. */
  destroy(): Promise<void>
}

export interface SourceHarness {
  source: Source
  createVm(diskSizesBytes: readonly number[]): Promise<TestVm>
  /**
   * What a write during a snapshot does: `isolated`, the snapshot does not see it (a hypervisor's snapshot);
   * `detected`, the snapshot is spoilt and says so (files that nobody freezes).
   */
  writesDuringSnapshot: 'isolated' | 'detected'
  /** Ends what the harness started. */
  cleanUp(): Promise<void>
}

const MIB = 1024 * 1024
const sizesBytes = [8 * MIB, 3 * MIB + 65_536]

/** Declares the suite. `makeHarness` is called before each test; what it made is cleaned up after it. */
export function describeSource(name: string, makeHarness: () => Promise<SourceHarness>): void {
  describe(`source ${name}`, () => {
    let bench: Bench
    beforeEach(async () => {
      const harness = await makeHarness()
      const runFolder = await mkdtemp(join(tmpdir(), 'hf-'))
      bench = { harness, source: harness.source, runFolder, vm: await harness.createVm(sizesBytes) }
      await bench.vm.write(0, 0, randomBytes(3 * MIB))
      await bench.vm.write(0, 6 * MIB + 4096, randomBytes(MIB))
      await bench.vm.write(1, 65_536, randomBytes(MIB))
    })
    afterEach(async () => {
      await bench.harness.cleanUp()
      await rm(bench.runFolder, { recursive: true })
    })
    const current = (): Bench => bench

    describeLooking(current)
    describeCopying(current)
    describeSnapshots(current)
    describeChange(current)
  })
}

interface Bench {
  harness: SourceHarness
  source: Source
  runFolder: string
  vm: TestVm
}

function describeLooking(current: () => Bench): void {
  it('describes the disks, and how much of them holds data', async () => {
    const { source, vm } = current()
    const { disks } = await source.describeVm(vm.config, {})
    expect(disks.map(({ index, sizeBytes }) => [index, sizeBytes])).toEqual(sizesBytes.map((size, index) => [index, size]))
    expect(new Set(disks.map((disk) => disk.key)).size).toBe(disks.length)
    for (const disk of disks) {
      expect(disk.dataBytes).toBeGreaterThanOrEqual(MIB)
      expect(disk.dataBytes).toBeLessThanOrEqual(disk.sizeBytes)
    }
  })

  it('says that a VM that is gone is gone', async () => {
    const { source, vm } = current()
    await vm.destroy()
    await expect(source.describeVm(vm.config, {})).rejects.toMatchObject(code('SOURCE_NOT_FOUND'))
    await expect(begin(current(), 'backup-1')).rejects.toMatchObject(code('SOURCE_NOT_FOUND'))
  })

  it('shows a disk that was added, and one that has grown, with the keys of the others unchanged', async () => {
    const { source, vm } = current()
    const before = await source.describeVm(vm.config, {})
    const config = await vm.addDisk(2 * MIB)
    await vm.growDisk(1, 5 * MIB)
    const after = await source.describeVm(config, {})
    expect(after.disks.map((disk) => disk.sizeBytes)).toEqual([sizesBytes[0], 5 * MIB, 2 * MIB])
    expect(after.disks.slice(0, 2).map((disk) => disk.key)).toEqual(before.disks.map((disk) => disk.key))
  })

  it('stops when it is told to', async () => {
    const { source, vm } = current()
    const signal = AbortSignal.abort(new Error('stopped by the test'))
    await expect(source.describeVm(vm.config, { signal })).rejects.toThrow('stopped by the test')
  })
}

function describeCopying(current: () => Bench): void {
  it('gives a full and three incrementals, each equal to the disks at its instant', async () => {
    const { vm } = current()
    const copies = sizesBytes.map((size) => Buffer.alloc(size))
    const full = await copyVm(current(), 'backup-0', copies, {})

    await vm.write(0, 2 * MIB - 10_240, randomBytes(20_480))
    await vm.write(1, 3 * MIB, randomBytes(65_536))
    const overwritten = await copyVm(current(), 'backup-1', copies, full.changeIds)

    await vm.zero(0, MIB, MIB)
    await vm.write(0, MIB + 200_704, randomBytes(4096))
    await vm.discard(1, 65_536, MIB)
    const zeroed = await copyVm(current(), 'backup-2', copies, overwritten.changeIds)

    // Nothing on disk 1, and on disk 0 what was zeroed is written again.
    await vm.write(0, MIB, randomBytes(MIB / 2))
    const written = await copyVm(current(), 'backup-3', copies, zeroed.changeIds)
    expect([full, overwritten, zeroed, written].map((copy) => copy.differing)).toEqual([[], [], [], []])
  })

  it('copies a disk that has grown since its parent', async () => {
    const { vm } = current()
    const copies = sizesBytes.map((size) => Buffer.alloc(size))
    const { changeIds } = await copyVm(current(), 'backup-0', copies, {})
    await vm.growDisk(1, 6 * MIB)
    await vm.write(1, 5 * MIB, randomBytes(MIB))
    copies[1] = Buffer.concat([copies[1] ?? Buffer.alloc(0), Buffer.alloc(6 * MIB - (sizesBytes[1] ?? 0))])
    expect((await copyVm(current(), 'backup-1', copies, changeIds)).differing).toEqual([])
  })

  it('serves a disk again after it was closed, and after a copy that never ended', async () => {
    const snapshot = await begin(current(), 'backup-1')
    const first = await open(current(), snapshot, 0)
    const part = await readAll(first, MIB)
    await first.close()
    const again = await open(current(), snapshot, 0)
    const whole = await readAll(again)
    await again.close()
    expect(whole.subarray(0, MIB).equals(part)).toBe(true)
    expect(whole.equals(await current().vm.content(0))).toBe(true)
  })

  it('serves all disks at once, and leaves no socket behind', async () => {
    const snapshot = await begin(current(), 'backup-1')
    const disks = await Promise.all([0, 1].map((index) => open(current(), snapshot, index)))
    const contents = await Promise.all(disks.map((disk) => readAll(disk)))
    for (const [index, content] of contents.entries()) expect(content.equals(await current().vm.content(index))).toBe(true)
    await Promise.all(disks.map((disk) => disk.close()))
    await Promise.all(disks.map((disk) => disk.close()))
    expect(await readdir(current().runFolder)).toEqual([])
  })

  it('has no disk that the snapshot has not', async () => {
    const snapshot = await begin(current(), 'backup-1')
    await expect(open(current(), snapshot, 7)).rejects.toMatchObject(code('SOURCE_CHANGED'))
  })
}

function describeSnapshots(current: () => Bench): void {
  it('is the same snapshot when it is begun again, and holds no more than plain data', async () => {
    const snapshot = await begin(current(), 'backup-1')
    const again = await begin(current(), 'backup-1')
    expect({ ...again, takenAt: snapshot.takenAt }).toEqual(snapshot)
    expect(JSON.parse(JSON.stringify(snapshot))).toEqual(snapshot)
    expect(new Date(snapshot.takenAt).toISOString()).toBe(snapshot.takenAt)
    expect(snapshot.consistencyReason).not.toBe('')
  })

  it('ends again and again, also what never began, and leaves the VM as it was', async () => {
    const { source, vm } = current()
    const before = await vm.content(0)
    await source.endSnapshot(vm.config, 'backup-never', ended('abandoned'), {})
    await begin(current(), 'backup-1')
    for (const outcome of ['abandoned', 'abandoned', 'published'] as const) {
      await source.endSnapshot(vm.config, 'backup-1', ended(outcome), {})
    }
    expect((await vm.content(0)).equals(before)).toBe(true)
    const next = await begin(current(), 'backup-2')
    await source.endSnapshot(vm.config, 'backup-2', ended('published'), {})
    expect(next.disks).toHaveLength(sizesBytes.length)
  })

  it('ends for a VM that is gone', async () => {
    const { source, vm } = current()
    await begin(current(), 'backup-1')
    await vm.destroy()
    await expect(source.endSnapshot(vm.config, 'backup-1', ended('abandoned'), {})).resolves.toBeUndefined()
  })
}

function describeChange(current: () => Bench): void {
  it('never mixes two instants: a write during the snapshot is kept out of it, or spoils it', async () => {
    const { vm, harness } = current()
    const before = await vm.content(0)
    const snapshot = await begin(current(), 'backup-1')
    const disk = await open(current(), snapshot, 0)
    await readAll(disk, MIB)
    await vm.write(0, 2 * MIB, randomBytes(MIB))
    if (harness.writesDuringSnapshot === 'isolated') {
      const content = await readAll(disk)
      await disk.close()
      // oxlint-disable-next-line vitest/no-conditional-expect -- the two kinds of source promise different things, and each is checked
      expect(content.equals(before)).toBe(true)
      return
    }
    // oxlint-disable-next-line vitest/no-conditional-expect -- as above
    await expect(disk.close()).rejects.toMatchObject(code('SOURCE_CHANGED'))
    // oxlint-disable-next-line vitest/no-conditional-expect -- as above
    await expect(open(current(), snapshot, 1)).rejects.toMatchObject(code('SOURCE_CHANGED'))
  })

  it('takes a new snapshot under a new id when the VM has changed', async () => {
    const first = await begin(current(), 'backup-1')
    await current().source.endSnapshot(current().vm.config, 'backup-1', ended('abandoned'), {})
    await current().vm.write(0, 0, randomBytes(4096))
    expect((await begin(current(), 'backup-2')).id).not.toBe(first.id)
  })

  it('does not open a disk of a VM that is gone', async () => {
    const snapshot = await begin(current(), 'backup-1')
    await current().vm.destroy()
    await expect(open(current(), snapshot, 0)).rejects.toMatchObject(code('SOURCE_CHANGED'))
  })
}

function begin(bench: Bench, backupId: string, parentChangeIds: Record<string, string> = {}): Promise<Snapshot> {
  return bench.source.beginSnapshot({ backupId, config: bench.vm.config, parentChangeIds }, {})
}

function open(bench: Bench, snapshot: Snapshot, index: number): Promise<OpenDisk> {
  return bench.source.openDisk(bench.vm.config, snapshot, index, { runFolder: bench.runFolder })
}

/** What a backup does: snapshot, copy what changed onto `copies`, compare with the oracle, end. */
async function copyVm(
  bench: Bench,
  backupId: string,
  copies: Buffer[],
  parentChangeIds: Record<string, string>,
): Promise<{ changeIds: Record<string, string>; differing: number[] }> {
  const differing: number[] = []
  const snapshot = await begin(bench, backupId, parentChangeIds)
  const contents = await Promise.all(snapshot.disks.map((disk) => bench.vm.content(disk.index)))
  for (const { index } of snapshot.disks) {
    const disk = await open(bench, snapshot, index)
    const copy = copies[index] ?? Buffer.alloc(0)
    await copyChanges(disk, copy)
    await disk.close()
    if (!contents[index]?.equals(copy)) differing.push(index)
  }
  const changed = snapshot.disks.flatMap(({ key, changeId }) => (changeId === null ? [] : [[key, changeId] as const]))
  const changeIds = Object.fromEntries(changed)
  await bench.source.endSnapshot(bench.vm.config, backupId, ended('published', Object.values(changeIds)), {})
  return { changeIds, differing }
}

async function copyChanges(disk: OpenDisk, copy: Buffer): Promise<void> {
  if (disk.sizeBytes !== copy.length) throw new Error(`The disk has ${disk.sizeBytes} bytes, the copy ${copy.length}.`)
  const { changes } = disk
  if (changes.type === 'compare-hashes') {
    ;(await readAll(disk)).copy(copy)
    return
  }
  const pool = await NbdPool.open(disk.endpoint, { connections: 1, metaContexts: [changes.metaContext] })
  for await (const extent of pool.extents(changes.metaContext, 0, disk.sizeBytes)) {
    if ((extent.flags & STATE_DIRTY) === 0) continue
    await pool.read(extent.offset, extent.length, copy.subarray(extent.offset, extent.offset + extent.length))
  }
  await pool.close()
}

async function readAll(disk: OpenDisk, length = disk.sizeBytes): Promise<Buffer> {
  const pool = await NbdPool.open(disk.endpoint, { connections: 2 })
  const content = Buffer.alloc(length)
  for (let offset = 0; offset < length; offset += BLOCK_SIZE_BYTES) {
    const size = Math.min(BLOCK_SIZE_BYTES, length - offset)
    await pool.read(offset, size, content.subarray(offset, offset + size))
  }
  await pool.close()
  return content
}

/** One repository: its newest backup is all that the next can start from. */
function ended(outcome: SnapshotEnd['outcome'], changeIdsInUse: readonly string[] = []): SnapshotEnd {
  return { outcome, changeIdsInUse }
}

function code(expected: ErrorCode): { code: ErrorCode } {
  return { code: expected }
}
