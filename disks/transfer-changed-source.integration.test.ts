/** A copy that goes on where an earlier attempt got further than its journal, on a source that shows other content by now. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Compression } from '../domain/backup.ts'
import { backUpImage, MIB, noise, prose, publish, transferRequest, writeImage } from '../test/disk-backups.ts'
import { output, startPlainQemuNbd } from '../test/nbd-programs.ts'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { checkImage, compareImages } from '../tools/qemu-img.ts'
import { checkChain, type ChainLink } from './chain.ts'
import { serveImage } from './serve.ts'
import { transferDisk, type TransferRequest } from './transfer.ts'
import { verifyDisk } from './verify.ts'

requireTool('qemu-nbd')

const sizeBytes = 24 * MIB

async function servedDisk(compression: Compression): Promise<{ folder: string; raw: string; request: TransferRequest }> {
  const folder = await temporaryFolder()
  const raw = join(folder, 'disk.raw')
  await writeImage(raw, sizeBytes, [
    [0, noise(6 * MIB, 1)],
    [6 * MIB, prose(8 * MIB, 2)],
    [20 * MIB, noise(4 * MIB, 3)],
  ])
  const served = await serveImage(raw, 'raw', { runFolder: join(folder, 'run') })
  onTestFinished(() => served.close())
  const source = { endpoint: served.endpoint, sizeBytes, changes: { type: 'compare-hashes' as const } }
  return { folder, raw, request: await transferRequest({ folder, backupId: 'backup', source, compression }) }
}

describe.each(['zstd', 'none'] as const)('with compression %s', (compression) => {
  /** What a guest that goes on writing does between the attempts, everywhere: data over zeroes, zeroes over data, data back to the parent's. */
  const changed: [number, Buffer][] = [
    [1 * MIB, Buffer.alloc(2 * MIB)],
    [5 * MIB, prose(MIB, 11)],
    [6 * MIB + 70_000, Buffer.alloc(3 * MIB)],
    [13 * MIB, noise(2 * MIB, 12)],
    [20 * MIB, Buffer.alloc(MIB)],
  ]

  it('makes a full that agrees with its own hashes', async () => {
    const setting = await servedDisk(compression)
    await transferDisk(setting.request)
    // Every cluster reached the image, and the journal does not know.
    await forgetCheckpoints(setting.request, 4 * MIB)
    await writeImage(setting.raw, sizeBytes, changed)
    await output('fallocate', '--punch-hole', '--offset', String(21 * MIB), '--length', String(MIB), setting.raw)
    const result = await transferDisk(setting.request)
    expect(result.resumedAtBytes).toBe(4 * MIB)
    await expectOwnHashes(await publish({ folder: setting.folder, backupId: 'backup', source: setting.request.source }, result))
  })

  it.each([1, 2])('makes an incremental that agrees with its own hashes, after %i attempts', async (attempts) => {
    const setting = await servedDisk(compression)
    const { folder, raw } = setting
    const { source } = setting.request
    const original = await readFile(raw)
    const parent = await publish({ folder, backupId: 'backup', source }, await transferDisk(setting.request))
    const request = await transferRequest({ folder, backupId: 'next', source, parent, compression })
    for (let attempt = 0; attempt < attempts; attempt++) {
      await writeImage(raw, sizeBytes, [...changed, [9 * MIB + attempt * MIB, noise(MIB, 13 + attempt)]])
      await transferDisk(request)
      await forgetCheckpoints(request, 4 * MIB)
    }
    // Now the source is almost what the parent holds, so that almost nothing differs from it.
    await writeImage(raw, sizeBytes, [[0, original]])
    await writeImage(raw, sizeBytes, [[7 * MIB, Buffer.alloc(MIB)]])
    const result = await transferDisk(request)
    expect(result.resumedAtBytes).toBe(4 * MIB)
    await expectOwnHashes(await publish({ folder, backupId: 'next', source, parent }, result))
  })

  it('writes again what a dirty bitmap says is unchanged, where leftovers hide it', async () => {
    const folder = await temporaryFolder()
    const path = join(folder, 'disk.qcow2')
    await output('qemu-img', 'create', '-q', '-f', 'qcow2', path, String(sizeBytes))
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 0 12M', path)
    const full = await backUpImage({ folder, backupId: 'full', imagePath: path, sizeBytes, format: 'qcow2', compression })
    await output('qemu-img', 'bitmap', '--add', '-f', 'qcow2', path, 'changes')
    await output('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 1M 64k', '-c', 'write -P 3 6M 1k', path)
    // The first attempt sees everything changed, as after a bitmap that was taken anew.
    const everything = join(folder, 'everything.raw')
    await writeImage(everything, sizeBytes, [[0, noise(sizeBytes, 4)]])
    const served = await serveImage(everything, 'raw', { runFolder: join(folder, 'run') })
    onTestFinished(() => served.close())
    const source = { endpoint: served.endpoint, sizeBytes, changes: { type: 'compare-hashes' as const } }
    const request = await transferRequest({ folder, backupId: 'next', source, parent: full.links, compression })
    await transferDisk(request)
    await forgetCheckpoints(request, 0)
    const server = await startPlainQemuNbd('--read-only', '--shared=8', '--format=qcow2', '--bitmap=changes', path)
    onTestFinished(() => server.tool.stop(5_000))
    request.source = {
      endpoint: server.endpoint,
      sizeBytes,
      changes: { type: 'dirty-bitmap', metaContext: 'qemu:dirty-bitmap:changes' },
    }
    const result = await transferDisk(request)
    const links = await publish({ folder, backupId: 'next', source, parent: full.links }, result)
    await expectOwnHashes(links)
    await server.tool.stop(5_000)
    expect(await compareImages(await checkChain(links), { path, format: 'qcow2' })).toBe(true)
  })
})

/** The backup against its own birth hashes, and its image without leaks. */
async function expectOwnHashes(links: ChainLink[]): Promise<void> {
  const { damage, verifiedBytes } = await verifyDisk({ links, runFolder: join(links[0]?.folder ?? '', '../run') })
  expect({ damage, verifiedBytes }).toEqual({ damage: [], verifiedBytes: sizeBytes })
  const image = join(links.at(-1)?.folder ?? '', 'disk-0.qcow2')
  expect(await checkImage(image)).toEqual({ corruptions: 0, leaks: 0 })
}

/** The journal as it is when the process dies between the flush of the image and the next lines. */
async function forgetCheckpoints(request: TransferRequest, positionBytes: number): Promise<void> {
  const path = join(request.target.folder, 'disk-0.journal')
  const last: unknown = JSON.parse((await readFile(path, 'utf8')).trim().split('\n').at(-1) ?? '')
  await writeFile(path, `${JSON.stringify(Object.assign({}, last, { positionBytes, writtenBytes: 7 }))}\n`)
}
