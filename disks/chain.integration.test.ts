import { copyFile, readFile, rm, symlink, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { backUpImage, MIB, noise, writeImage } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { output } from '../test/nbd-programs.ts'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { checkChain, imagePath, type ChainLink } from './chain.ts'
import { serveChain } from './serve.ts'

requireTool('qemu-nbd')

async function chainOfTwo(): Promise<{ folder: string; full: ChainLink; next: ChainLink }> {
  const folder = await temporaryFolder()
  const raw = join(folder, 'disk.raw')
  await writeImage(raw, 2 * MIB, [[0, noise(MIB, 1)]])
  const first = await backUpImage({ folder, backupId: 'full', imagePath: raw, sizeBytes: 2 * MIB })
  await writeImage(raw, 2 * MIB, [[0, noise(1_000, 2)]])
  const { links } = await backUpImage({ folder, backupId: 'next', imagePath: raw, sizeBytes: 2 * MIB, parent: first.links })
  const [full, next] = links
  if (!full || !next) throw new TypeError('there are no two backups')
  return { folder, full, next }
}

/** The link with its manifest brought in line with the file, as a careful attacker would. */
async function adjusted(link: ChainLink, change: Partial<ChainLink['disk']> = {}): Promise<ChainLink> {
  const { length } = await readFile(imagePath(link))
  return { ...link, disk: { ...link.disk, file_size_bytes: length, ...change } }
}

it('spells out every file of a sound chain', async () => {
  const { full, next } = await chainOfTwo()
  expect(await checkChain([full, next])).toMatchObject({
    driver: 'qcow2',
    'read-only': true,
    file: { filename: imagePath(next) },
    backing: { file: { filename: imagePath(full) }, backing: null },
  })
})

it.each([
  'json:{"driver":"file","filename":"/etc/shadow"}',
  '/etc/shadow',
  '../../../etc/shadow',
  '../full/../../etc/shadow',
  'nbd:127.0.0.1:10809',
  'file:../full/disk-0.qcow2',
  '../other/disk-0.qcow2',
])('refuses a header that names %s', async (name) => {
  const { full, next } = await chainOfTwo()
  await output('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', name, '-F', 'raw', imagePath(next))
  const details = { backupId: 'next', path: imagePath(next), found: `"${name}"`, expected: '"../full/disk-0.qcow2"' }
  expect(await failureOf(checkChain([full, await adjusted(next)]))).toMatchObject({
    code: 'CORRUPT_CHAIN',
    retryable: false,
    details,
  })
  // Not even if the manifest agrees with the header.
  const agreeing = await adjusted(next, { backing_file: name })
  expect(await failureOf(checkChain([full, agreeing]))).toMatchObject({ code: 'CORRUPT_CHAIN', details: { backupId: 'next' } })
})

it('refuses a backing file on a full, a raw backing format and a backing file that is gone', async () => {
  const { full, next } = await chainOfTwo()
  await output('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', '../full/disk-0.qcow2', '-F', 'raw', imagePath(next))
  expect((await failureOf(checkChain([full, await adjusted(next)]))).details).toMatchObject({
    what: 'backing format',
    found: '"raw"',
  })
  await copyFile(imagePath(next), imagePath(full))
  expect((await failureOf(checkChain([await adjusted(full)]))).details).toMatchObject({ backupId: 'full', expected: 'none' })
  await rm(imagePath(full))
  expect((await failureOf(checkChain([full]))).details).toMatchObject({ backupId: 'full', found: 'nothing' })
})

it('refuses data in another file, encryption and other sizes', async () => {
  const { folder, full } = await chainOfTwo()
  const create = async (options: string): Promise<ChainLink> => {
    await rm(imagePath(full))
    await output('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, imagePath(full), '2M')
    return adjusted(full)
  }
  const whatOf = async (link: ChainLink): Promise<unknown> => (await failureOf(checkChain([link]))).details['what']
  expect(await whatOf(await create(`data_file=${join(folder, 'elsewhere')}`))).toBe('external data file')
  await create('compat=1.1')
  // The encryption method in the header; making a real LUKS image takes a benchmark that fails on busy machines.
  await writeImage(imagePath(full), full.disk.file_size_bytes, [[32, Buffer.of(0, 0, 0, 2)]])
  expect(await whatOf(await adjusted(full))).toBe('encryption')
  expect(await whatOf(await create('extended_l2=on'))).toBe('incompatible features')
  await create('compat=1.1')
  await output('qemu-img', 'resize', '-q', '-f', 'qcow2', imagePath(full), '3M')
  expect(await whatOf(await adjusted(full))).toBe('virtual size')
})

it('refuses a cut file, a link and another folder', async () => {
  const { folder, full, next } = await chainOfTwo()
  expect((await failureOf(checkChain([full, { ...next, folder: join(folder, 'run') }]))).code).toBe('CORRUPT_CHAIN')
  expect((await failureOf(checkChain([{ ...full, folder: join(folder, 'a/full') }, next]))).code).toBe('CORRUPT_CHAIN')
  expect((await failureOf(checkChain([next]))).details).toMatchObject({ backupId: 'next', what: 'type' })
  expect((await failureOf(checkChain([]))).code).toBe('CORRUPT_CHAIN')
  await truncate(imagePath(full), 400_000)
  expect((await failureOf(checkChain([full, next]))).details).toMatchObject({ backupId: 'full', what: 'file size' })
  await rm(imagePath(full))
  await symlink('/etc/passwd', imagePath(full))
  expect((await failureOf(checkChain([full]))).details).toMatchObject({ found: 'a symbolic link' })
})

it('says when the folder for sockets has too long a name', async () => {
  const { folder, full } = await chainOfTwo()
  const error = await failureOf(serveChain([full], { runFolder: join(folder, 'x'.repeat(90)) }))
  expect(error).toMatchObject({ code: 'INVALID_REQUEST', retryable: false })
  expect(error.message).toContain('HOLDFAST_HOME')
})
