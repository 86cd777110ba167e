/** What needs a process that dies or a file system that refuses: both are made for real. */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { runTool } from '../tools/run-tool.ts'
import { LocalRepository } from './local.ts'
import { publishSample, sampleManifest, sampleReference, stageSample } from './sample-backup.ts'

const [first, second] = [sampleReference(1), sampleReference(2)]
let folder: string
let repository: LocalRepository

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-local-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

describe('a process killed before any of its file operations', () => {
  beforeEach(async () => {
    repository = new LocalRepository('repo-test', join(folder, 'repository'))
    await repository.initialize()
    await publishSample(repository, first)
  })

  it('leaves a backup being published staged or whole, and a repeated publication ends it', async () => {
    const manifest = sampleManifest(second, first)
    let deaths = 0
    for (let survived = false; !survived; deaths += 1) {
      await stageSample(repository, second, first)
      survived = await runUntilOperation(deaths, 'publishBackup', second, manifest)
      const listing = await repository.listBackups()
      expect(listing.damaged).toEqual([])
      // One of two states, never both and never neither.
      expect([...listing.staged, ...listing.backups].filter((backup) => backup.backupId === second.backupId)).toHaveLength(1)
      const published = await repository.publishBackup(second, { ...manifest, published_at: '2026-01-01T10:00:00.000Z' })
      expect(await repository.getBackup(second)).toEqual(published)
      await repository.deleteBackup(second)
    }
    expect(deaths, 'the injection must have met every step of a publication').toBeGreaterThan(10)
  })

  it('leaves a backup being deleted whole or gone, and a repeated deletion ends it', async () => {
    let deaths = 0
    for (let survived = false; !survived; deaths += 1) {
      const published = await publishSample(repository, second, first)
      const whole = await readdir(published.folder)
      survived = await runUntilOperation(deaths, 'deleteBackup', second)
      const listing = await repository.listBackups()
      expect(listing.damaged).toEqual([])
      const left = listing.backups.find((backup) => backup.backupId === second.backupId)
      expect(left ? await readdir(published.folder) : whole).toEqual(whole)
      await repository.deleteBackup(second)
      expect(await readdir(join(published.folder, '..'))).toEqual([first.backupId])
    }
    expect(deaths).toBeGreaterThan(4)
  })
})

/** Runs one call in a process that kills itself before its n-th changing file operation. Returns whether it got to the end. */
async function runUntilOperation(n: number, verb: 'publishBackup' | 'deleteBackup', ...args: unknown[]): Promise<boolean> {
  const script = `
    import files from 'node:fs/promises'
    import { syncBuiltinESMExports } from 'node:module'
    let left = ${n}
    const dieWhenDue = () => { if (left-- === 0) process.kill(process.pid, 'SIGKILL') }
    const guard = (owner, name) => {
      const original = owner[name]
      owner[name] = function (...args) { dieWhenDue(); return original.apply(this, args) }
    }
    const handle = await files.open('/dev/null')
    for (const name of ['sync', 'writeFile', 'close']) guard(Object.getPrototypeOf(handle), name)
    for (const name of ['open', 'rename', 'rm', 'rmdir', 'mkdir', 'readdir', 'lstat']) guard(files, name)
    syncBuiltinESMExports()
    const { LocalRepository } = await import(${JSON.stringify(pathToFileURL(join(import.meta.dirname, 'local.ts')).href)})
    const repository = new LocalRepository('repo-test', ${JSON.stringify(repository.root)})
    await repository[${JSON.stringify(verb)}](...${JSON.stringify(args)})
    left = -1`
  try {
    await runTool(process.execPath, ['--input-type=module', '--eval', script], { timeoutMs: 30_000 })
    return true
  } catch (error) {
    if (error instanceof HoldfastError && error.details['signal'] === 'SIGKILL') return false
    throw error
  }
}

describe('a file system that refuses', () => {
  const mountPoint = (): string => join(folder, 'mounted')
  const mount = (...args: string[]): Promise<unknown> => runTool('mount', [...args, mountPoint()], { timeoutMs: 10_000 })

  beforeEach(async (context) => {
    await mkdir(mountPoint())
    if (process.getuid?.() !== 0) context.skip('mounting a small file system needs root')
    await mount('-t', 'tmpfs', '-o', 'size=256k', 'holdfast-test')
    repository = new LocalRepository('repo-test', mountPoint())
    await repository.initialize()
  })
  afterEach(() => runTool('umount', [mountPoint()], { timeoutMs: 10_000, allowExitCodes: [1, 32] }))

  it('says how much was needed and how much is free when it is full, and publishes once there is room', async () => {
    const staged = await stageSample(repository, first)
    // Larger than the journals that publication removes first.
    const manifest = { ...staged, vm: { ...staged.vm, config: { definition: 'x'.repeat(64 * 1024) } } }
    await fill(join(mountPoint(), 'filler'))
    await expect(repository.publishBackup(first, manifest)).rejects.toMatchObject({
      code: 'INSUFFICIENT_STORAGE',
      retryable: false,
      details: { required_bytes: expect.any(Number) },
    })
    await expect(repository.getBackup(first)).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' })
    expect(await repository.storage()).toMatchObject({ writable: false, availableBytes: 0, totalBytes: 256 * 1024 })
    await rm(join(mountPoint(), 'filler'))
    expect((await repository.publishBackup(first, manifest)).manifest).toEqual(manifest)
  })

  it('is invalid for writing and still readable when it is mounted read-only', async () => {
    const published = await publishSample(repository, first)
    await mount('-o', 'remount,ro')
    expect((await repository.storage()).writable).toBe(false)
    expect(await repository.getBackup(first)).toEqual(published)
    await expect(repository.createBackup(second)).rejects.toMatchObject({ code: 'REPO_INVALID' })
    await expect(repository.deleteBackup(first)).rejects.toMatchObject({ code: 'REPO_INVALID' })
    expect(await repository.getBackup(first)).toEqual(published)
  })

  it('is unavailable, not empty, once it is unmounted', async () => {
    await publishSample(repository, first)
    await runTool('umount', [mountPoint()], { timeoutMs: 10_000 })
    await expect(repository.listBackups()).rejects.toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
    await expect(repository.deleteBackup(first)).rejects.toMatchObject({ code: 'REPO_UNAVAILABLE' })
  })
})

/** Writes until not even an empty page is left. */
async function fill(path: string): Promise<void> {
  await expect(writeFile(path, Buffer.alloc(1024 * 1024))).rejects.toMatchObject({ code: 'ENOSPC' })
}
