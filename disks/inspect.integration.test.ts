import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { MIB, noise, writeImage } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { output, startPlainQemuNbd } from '../test/nbd-programs.ts'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { checkImage, compareImages, createImage, imageInfo, qemuVersion, shrinkImage } from '../tools/qemu-img.ts'
import { inspectImage } from './inspect.ts'

requireTool('qemu-img')
requireTool('qemu-nbd')

it('tells how much of a sparse disk holds data', async () => {
  const path = join(await temporaryFolder(), 'disk.raw')
  await writeImage(path, 512 * MIB, [[100 * MIB, noise(4 * MIB, 1)]])
  const { sizeBytes, dataBytes, format } = await inspectImage(path, 'raw')
  expect({ sizeBytes, format }).toEqual({ sizeBytes: 512 * MIB, format: 'raw' })
  expect(dataBytes).toBeGreaterThanOrEqual(4 * MIB)
  expect(dataBytes).toBeLessThan(6 * MIB)
})

it('never says more data than the disk has', async () => {
  const path = join(await temporaryFolder(), 'disk.raw')
  await writeImage(path, MIB, [[0, noise(MIB, 1)]])
  expect(await inspectImage(path, 'raw')).toEqual({ sizeBytes: MIB, dataBytes: MIB, format: 'raw' })
})

it.each(['qcow2', 'vmdk', 'vhdx', 'vpc'])('reads %s', async (format) => {
  const folder = await temporaryFolder()
  const raw = join(folder, 'disk.raw')
  const path = join(folder, `disk.${format}`)
  await writeImage(raw, 64 * MIB, [[MIB, noise(MIB, 1)]])
  await output('qemu-img', 'convert', '-f', 'raw', '-O', format, raw, path)
  const { sizeBytes, dataBytes } = await inspectImage(path, format)
  expect(sizeBytes).toBeGreaterThanOrEqual(64 * MIB)
  expect(dataBytes).toBeGreaterThanOrEqual(MIB)
})

it('believes the format it is told, not the header that a guest wrote', async () => {
  const folder = await temporaryFolder()
  const path = join(folder, 'disk.raw')
  await createImage({ path, sizeBytes: 1024 * MIB, compression: 'none', backing: null })
  const { sizeBytes } = await inspectImage(path, 'raw')
  expect(sizeBytes).toBeLessThan(MIB)
})

it('says so when a writer has the image', async () => {
  const path = join(await temporaryFolder(), 'disk.qcow2')
  await createImage({ path, sizeBytes: MIB, compression: 'zstd', backing: null })
  const writer = await startPlainQemuNbd('--format=qcow2', path)
  expect(await failureOf(inspectImage(path, 'qcow2'))).toMatchObject({ code: 'SOURCE_BUSY', retryable: true, details: { path } })
  expect(await failureOf(checkImage(path))).toMatchObject({ code: 'SOURCE_BUSY' })
  await writer.tool.stop(5_000)
  expect(await inspectImage(path, 'qcow2')).toMatchObject({ sizeBytes: MIB })
})

it('fails for what is no such image', async () => {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'text'), 'hello')
  expect(await failureOf(inspectImage(join(folder, 'text'), 'qcow2'))).toMatchObject({ code: 'TOOL_FAILED' })
  expect(await failureOf(inspectImage(join(folder, 'none'), 'raw'))).toMatchObject({ code: 'TOOL_FAILED' })
  expect(await failureOf(imageInfo('relative', 'raw'))).toMatchObject({ code: 'INTERNAL' })
})

it('creates images as every backup has them', async () => {
  const folder = await temporaryFolder()
  const path = join(folder, 'disk.qcow2')
  await createImage({
    path,
    sizeBytes: 4 * MIB,
    compression: 'zstd',
    backing: { name: '../parent/disk-0.qcow2', format: 'qcow2' },
  })
  const info: unknown = JSON.parse(await output('qemu-img', 'info', '--output=json', '-f', 'qcow2', path))
  expect(info).toMatchObject({
    'cluster-size': 65_536,
    'backing-filename': '../parent/disk-0.qcow2',
    'backing-filename-format': 'qcow2',
    'format-specific': { data: { compat: '1.1', 'compression-type': 'zstd', 'lazy-refcounts': false, 'refcount-bits': 16 } },
  })
  await shrinkImage(path, 3 * MIB + 512)
  await shrinkImage(path, 3 * MIB + 512)
  expect(await imageInfo(path, 'qcow2')).toMatchObject({ virtualSizeBytes: 3 * MIB + 512, backingName: '../parent/disk-0.qcow2' })
})

it('compares what a guest would see', async () => {
  const folder = await temporaryFolder()
  const [left, right] = [join(folder, 'left.raw'), join(folder, 'right.raw')]
  await writeImage(left, MIB, [[0, noise(512, 1)]])
  await writeImage(right, MIB, [[0, noise(512, 1)]])
  expect(await compareImages({ path: left, format: 'raw' }, { driver: 'raw', file: { driver: 'file', filename: right } })).toBe(
    true,
  )
  await writeImage(right, MIB, [[700, Buffer.of(1)]])
  expect(await compareImages({ path: left, format: 'raw' }, { path: right, format: 'raw' })).toBe(false)
})

it('knows the version', async () => {
  expect(await qemuVersion()).toMatch(/^\d+\.\d+\.\d+/)
})
