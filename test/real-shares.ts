/** What is proven of each kind of share with a real server and the kernel's own client. It runs inside User-Mode Linux: see `shares-in-uml.ts`. */
import { randomBytes } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { readFile, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as immediate, setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { serveImage, type ServedDisk } from '../disks/serve.ts'
import type { TransferProgress, TransferRequest, TransferResult } from '../disks/transfer.ts'
import { HoldfastError, type JsonObject } from '../domain/errors.ts'
import type { ManifestDisk } from '../domain/manifest.ts'
import { usualDeadlines } from '../hosting/deadlines.ts'
import { LocalRepositoryHost } from '../hosting/repository-host.ts'
import { ShareDesk } from '../hosting/share-desk.ts'
import { describeRepository } from '../repositories/conformance.ts'
import { placeOf, repositoryAt } from '../repositories/registry.ts'
import type { Repository } from '../repositories/repository.ts'
import { sampleManifest, sampleReference } from '../repositories/sample-backup.ts'
import type { SealedShare } from '../repositories/share-mounts.ts'
import { createMounter } from '../tools/mount.ts'
import { runTool, startTool } from '../tools/run-tool.ts'
import { MIB, writeImage } from './disk-backups.ts'
import { canary, foreigner, type ShareServer } from './share-servers.ts'

/** On a tmpfs: what is written through the host's files is slow. */
const FOLDER = '/mnt'
const mountsFolder = join(FOLDER, 'home', 'mounts')
const DISK_BYTES = 16 * MIB

/** A client of SMB that has lost its server takes ten seconds over each of the things that it was asked. */
const deadlines = { ...usualDeadlines, quietMs: 3_000, questionMs: 4_000, giveUpMs: 1_000 }
const mounter = createMounter({ mountTimeoutMs: 12_000, unmountTimeoutMs: 3_000 })

export function describeShares(type: 'nfs' | 'cifs', makeServer: (folder: string) => Promise<ShareServer>): void {
  let server: ShareServer
  let password = canary
  const desk = new ShareDesk({ folder: mountsFolder, mounter, passwordOf: async () => password })
  const id = `repo-${type}`
  const shareOf = (config: JsonObject): SealedShare => {
    const place = placeOf({ id, type, config, credentialsId: 'cred-1' })
    if (place.kind !== 'share') throw new Error('not a share')
    return place.share
  }
  const backups = (): SealedShare => shareOf(server.config('backups'))
  const opened = async (): Promise<Repository> => repositoryAt(await desk.ensure(id, backups()), { id, type })

  beforeAll(async () => {
    server = await makeServer(join(FOLDER, type))
    await server.start()
  })
  afterAll(async () => {
    for (const name of await readdir(mountsFolder)) await desk.release(name, { lazy: true })
    await server.stop()
  })

  it('is mounted, becomes a repository, and tells its space', async () => {
    const watched = watchForCanary()
    const repository = await opened()
    expect(await watched.end()).toMatchObject({ leaks: [], sawMount: true })
    await repository.initialize()
    expect(await repository.storage()).toMatchObject({ writable: true })
    expect(await desk.state(id)).toMatchObject({ mounted: true, source: backups().source })
  })

  it('keeps its password to itself while it is mounted', async () => {
    expect(leaksOf(allProcesses())).toEqual([])
    const options = (await readFile('/proc/mounts', 'utf8')).split('\n').find((line) => line.includes(`/mounts/${id} `)) ?? ''
    for (const option of ['nosuid', 'nodev', 'noexec', 'soft']) expect(options).toContain(option)
  })

  it('is not registered a second time under another name', async () => {
    const root = await desk.ensure('repo-twice', backups())
    await expect(repositoryAt(root, { id: 'repo-twice', type }).initialize()).rejects.toMatchObject({
      code: 'REPO_INVALID',
      details: { found_repository_id: id },
    })
    await desk.release('repo-twice', { lazy: false })
    expect(await (await opened()).listBackups()).toEqual({ backups: [], damaged: [], staged: [] })
  })

  it('takes a backup while its server is stopped and started again; it is verified and restored', async () => {
    // As the mover does it, by a process that may hang. Whoever has a file of a dead share open cannot start a program: what the program does not
    // inherit is closed before, which waits until what was written is stored or lost. Here that would be the server.
    const host = new LocalRepositoryHost({ desk, mountsFolder, log: () => undefined, deadlines })
    const record = { id, type, config: server.config('backups'), credentialsId: 'cred-1' }
    const repository = host.open(record)
    const image = join(FOLDER, `${type}.raw`)
    await writeImage(image, DISK_BYTES, [
      [0, randomBytes(6 * MIB)],
      [8 * MIB, randomBytes(7 * MIB)],
    ])
    const served = await serveImage(image, 'raw', { runFolder: join(FOLDER, 'run') })
    const reference = sampleReference(1)
    const staged = await repository.createBackup(reference)
    const request = transferTo(staged.folder, served)
    const result = await transferInterrupted(server, (onProgress) => repository.disks.transferDisk(request, { onProgress }))
    await served.close()
    const disk = manifestDisk(result)
    await repository.publishBackup(reference, { ...sampleManifest(reference, null), disks: [disk] })
    const { folder } = await repository.getBackup(reference)
    const links = [{ backupId: reference.backupId, folder, disk }]
    expect(await repository.disks.verifyDisk({ links, runFolder: join(FOLDER, 'run') })).toEqual({
      verifiedBytes: DISK_BYTES,
      damage: [],
    })
    const targetPath = join(FOLDER, `${type}-restored.raw`)
    const rhythm = { checkpointIntervalMs: 5_000, checkpointIntervalBytes: 16 * MIB }
    const restore = { restoreId: 'restore-1', links, targetPath, targetFormat: 'raw' as const, runFolder: join(FOLDER, 'run') }
    expect(await repository.disks.restoreDiskTo({ ...restore, ...rhythm })).toMatchObject({ restoredBytes: DISK_BYTES })
    expect(await runTool('cmp', [image, targetPath], { timeoutMs: 30_000 })).toMatchObject({ exitCode: 0 })
    await Promise.all([rm(image), rm(targetPath), host.close()])
  })

  it('is found mounted by the next process, and mounted anew after it was unmounted', async () => {
    const next = new ShareDesk({
      folder: mountsFolder,
      mounter,
      passwordOf: () => Promise.reject(new Error('not needed')),
    })
    const root = await next.ensure(id, backups())
    await next.release(id, { lazy: false })
    await expect(stat(root)).rejects.toMatchObject({ code: 'ENOENT' })
    expect((await (await opened()).listBackups()).backups.length).toBe(1)
  })

  it('is not unmounted while it is in use', async () => {
    const user = startTool('sleep', ['60'], { cwd: await desk.ensure(id, backups()) })
    await expect(desk.release(id, { lazy: false })).rejects.toMatchObject({ code: 'REPO_BUSY' })
    await user.stop(1_000)
    expect(await desk.state(id)).toMatchObject({ mounted: true })
  })

  it('that may only be read is no place for a repository', async () => {
    const root = await desk.ensure('repo-readonly', shareOf(server.config('readonly')))
    const repository = repositoryAt(root, { id: 'repo-readonly', type })
    expect(await repository.storage()).toMatchObject({ writable: false })
    await expect(repository.initialize()).rejects.toMatchObject({ code: 'REPO_INVALID' })
    await desk.release('repo-readonly', { lazy: false })
  })

  it('that does not exist, and a server that does not run, are told apart from a wrong option', async () => {
    await expect(desk.mount('repo-none', shareOf(server.config('missing')))).rejects.toMatchObject({ code: 'CONNECTION_FAILED' })
    const elsewhere = shareOf({ ...server.config('backups'), server: '127.0.0.2', mount_options: ['port=9'] })
    // The client of NFS tries a port that nobody listens on again and again.
    const impatient = createMounter({ mountTimeoutMs: 3_000 })
    const attempt = impatient.mount({ ...elsewhere, password: canary }, await mkdtemp(join(FOLDER, 'none-')), {
      signal: undefined,
    })
    await expect(attempt).rejects.toMatchObject({ code: 'CONNECTION_FAILED' })
    const nameless = shareOf({ ...server.config('backups'), server: 'no-such-host.invalid' })
    await expect(desk.mount('repo-none', nameless)).rejects.toMatchObject({ code: 'CONNECTION_FAILED' })
    const unknown = { ...backups(), options: [...backups().options, 'no_such_option=1'] }
    await expect(desk.mount('repo-none', unknown)).rejects.toMatchObject({ code: 'REPO_INVALID' })
    expect(await desk.state('repo-none')).toMatchObject({ mounted: false })
  })

  it('that wants a password never shows it, and says so when it is wrong', async () => {
    password = `${canary} wrong`
    const watched = watchForCanary()
    const failure: unknown = await desk.mount('repo-wrong', backups()).catch((error: unknown) => error)
    password = canary
    expect(await watched.end()).toMatchObject({ leaks: [], sawMount: true })
    // An export of NFS knows no passwords.
    expect(failure instanceof HoldfastError ? failure.code : 'mounted').toBe(
      type === 'cifs' ? 'REPO_AUTHENTICATION_FAILED' : 'mounted',
    )
    expect(inspect(failure, { depth: 5 })).not.toContain('canary')
    await desk.release('repo-wrong', { lazy: false })
  })

  it('may have a password beyond ASCII', async () => {
    password = foreigner.password
    // An export of NFS takes no notice of either.
    const user = type === 'cifs' ? { username: foreigner.username } : {}
    await desk.mount('repo-foreign', shareOf({ ...server.config('backups'), ...user }))
    password = canary
    expect(await desk.state('repo-foreign')).toMatchObject({ mounted: true })
    await desk.release('repo-foreign', { lazy: false })
  })

  it('whose server is gone is unmounted at once all the same', async () => {
    await opened()
    await server.stop()
    const begun = performance.now()
    await desk.release(id, { lazy: true })
    expect(performance.now() - begun).toBeLessThan(5_000)
    expect(await desk.state(id)).toMatchObject({ mounted: false })
    await server.start()
    // The client of SMB goes on for a while with the connection that it has given up.
    const { backups } = await untilAnswered(async () => (await opened()).listBackups())
    expect(backups.length).toBe(1)
  })

  it('whose server is gone is unmounted lazily by itself', async () => {
    await opened()
    await server.stop()
    await desk.release(id, { lazy: false })
    expect(await desk.state(id)).toMatchObject({ mounted: false })
    await server.start()
    await untilAnswered(async () => (await opened()).listBackups())
  })

  describe('conforms', () => {
    let count = 0
    describeRepository(type, async () => {
      const root = join(await desk.ensure('repo-suite', backups()), `case-${(count += 1)}`)
      return {
        repository: repositoryAt(root, { id: 'repo-test', type }),
        withId: (other) => repositoryAt(root, { id: other, type }),
        tellsBlocks: type !== 'cifs',
        cleanUp: () => rm(root, { recursive: true, force: true }),
      }
    })
    afterAll(() => desk.release('repo-suite', { lazy: false }))
  })
}

function transferTo(folder: string, served: ServedDisk): TransferRequest {
  return {
    source: { endpoint: served.endpoint, sizeBytes: DISK_BYTES, changes: { type: 'compare-hashes' } },
    snapshotId: 'snapshot-1',
    target: { folder, diskIndex: 0, sizeBytes: DISK_BYTES, compression: 'zstd', parent: null },
    runFolder: join(FOLDER, 'run'),
    rateLimitBytesPerSecond: 4 * MIB,
    checkpointIntervalMs: 60_000,
    checkpointIntervalBytes: 2 * MIB,
  }
}

type Transfer = (onProgress: (progress: TransferProgress) => void) => Promise<TransferResult>

/** Stops the server once something is durable, until the attempt has failed; starts it again, and goes on as Temporal would. */
async function transferInterrupted(server: ShareServer, transfer: Transfer): Promise<TransferResult> {
  const durable = Promise.withResolvers<void>()
  const first = transfer(({ checkpointBytes }) => void (checkpointBytes > 0 && durable.resolve())).catch(
    (error: unknown) => error,
  )
  await Promise.race([durable.promise, first])
  await server.stop()
  expect(await first).toMatchObject({ name: 'HoldfastError', retryable: true })
  await server.start()
  const result = await untilAnswered(() => transfer(() => undefined))
  expect(result.resumedAtBytes).toBeGreaterThan(0)
  return result
}

/** A client needs a moment to find out that its server is back. */
async function untilAnswered<T>(run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run()
    } catch (error) {
      if (!(error instanceof HoldfastError) || !error.retryable) throw error
      await delay(500)
    }
  }
}

function manifestDisk(result: TransferResult): ManifestDisk {
  return {
    index: 0,
    key: 'disk',
    label: 'disk',
    size_bytes: DISK_BYTES,
    backup_type: 'full',
    full_reason: 'first_backup',
    file: 'disk-0.qcow2',
    file_size_bytes: result.fileSizeBytes,
    backing_file: null,
    blocks_file: 'disk-0.blocks',
    blocks_sha256: result.blocksSha256,
    change_id: null,
    written_bytes: result.writtenBytes,
  }
}

/** Looks again and again until told to end. `sawMount`: a mount helper was among what was looked at, so that nothing found means something. */
function watchForCanary(): { end(): Promise<{ leaks: string[]; sawMount: boolean }> } {
  const leaks = new Set<string>()
  const over = new AbortController()
  let sawMount = false
  const watching = (async () => {
    while (!over.signal.aborted) {
      for (const leak of leaksOf(newProcesses(), () => (sawMount = true))) leaks.add(leak)
      await immediate()
    }
  })()
  return {
    async end() {
      over.abort()
      await watching
      return { leaks: [...leaks], sawMount }
    },
  }
}

/** What was started after us. */
function newProcesses(): string[] {
  return allProcesses().filter((pid) => Number(pid) >= process.pid)
}

function allProcesses(): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name))
}

/** Where the password can be read by others: arguments and environments of processes, and the list of mounts. */
function leaksOf(processes: readonly string[], onMount: () => void = () => undefined): string[] {
  const files = [
    '/proc/mounts',
    '/proc/self/mountinfo',
    ...processes.flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`]),
  ]
  return files.filter((file) => {
    const text = contentOf(file)
    if (text.startsWith('mount.') && file.endsWith('/cmdline')) onMount()
    return text.includes('canary')
  })
}

function contentOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    // It has ended meanwhile.
    return ''
  }
}

await mkdir(mountsFolder, { recursive: true })
