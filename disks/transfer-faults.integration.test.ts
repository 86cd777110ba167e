/** What goes wrong around a transfer, done for real: killed writers, failing sources, a full disk. */
import { once } from 'node:events'
import { appendFile, mkdir, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Worker } from 'node:worker_threads'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { blockCount } from '../domain/blocks.ts'
import { MIB, noise, processesNaming, prose, publish, transferRequest, writeImage } from '../test/disk-backups.ts'
import { failureOf } from '../test/failure.ts'
import { startNbdkit } from '../test/nbd-programs.ts'
import { requireTool } from '../test/requires.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { checkImage, compareImages } from '../tools/qemu-img.ts'
import { runTool, startTool } from '../tools/run-tool.ts'
import { digestPosition } from './block-hashes.ts'
import { checkChain } from './chain.ts'
import { serveImage } from './serve.ts'
import { transferDisk, type TransferProgress, type TransferRequest } from './transfer.ts'

requireTool('nbdkit')
requireTool('qemu-nbd')

const sizeBytes = 24 * MIB

interface Setting {
  folder: string
  raw: string
  /** Slow enough to be interrupted, with a checkpoint every 2 MiB. */
  request: TransferRequest
}

async function slowTransfer(change: Partial<TransferRequest> = {}): Promise<Setting> {
  const folder = await temporaryFolder()
  const raw = join(folder, 'disk.raw')
  // Compressible and not, because QEMU writes the two in different ways.
  await writeImage(raw, sizeBytes, [
    [0, noise(6 * MIB, 1)],
    [6 * MIB, prose(8 * MIB, 2)],
    [20 * MIB, noise(4 * MIB, 3)],
  ])
  const served = await serveImage(raw, 'raw', { runFolder: join(folder, 'run') })
  onTestFinished(() => served.close())
  const source = { endpoint: served.endpoint, sizeBytes, changes: { type: 'compare-hashes' as const } }
  const slow = { rateLimitBytesPerSecond: 8 * MIB, checkpointIntervalBytes: 2 * MIB, ...change }
  return { folder, raw, request: await transferRequest({ folder, backupId: 'backup', source, change: slow }) }
}

/** Runs the transfer again at full speed; the backup must then equal the source. */
async function finishAndCompare({ folder, raw, request }: Setting): Promise<number> {
  const result = await transferDisk({ ...request, rateLimitBytesPerSecond: null })
  const links = await publish({ folder, backupId: 'backup', source: request.source }, result)
  expect(await compareImages(await checkChain(links), { path: raw, format: 'raw' })).toBe(true)
  expect(await readdir(join(folder, 'backup'))).toEqual(['disk-0.blocks', 'disk-0.qcow2'])
  return result.resumedAtBytes
}

const targetOf = (request: TransferRequest): string => join(request.target.folder, 'disk-0.qcow2')

/** Does something once the transfer is past a checkpoint with more to come. */
function onceUnderWay(act: () => void): (progress: TransferProgress) => void {
  let acted = false
  return (progress) => {
    if (acted || progress.checkpointBytes < 8 * MIB) return
    acted = true
    act()
  }
}

describe('after a crash', () => {
  it.each(['zstd', 'none'] as const)('goes on when the writing server was killed (%s)', async (compression) => {
    const setting = await slowTransfer()
    setting.request.target.compression = compression
    const killServer = async (): Promise<void> => {
      const pids = await processesNaming(targetOf(setting.request))
      for (const pid of pids) process.kill(pid, 'SIGKILL')
    }
    const error = await failureOf(transferDisk(setting.request, { onProgress: onceUnderWay(() => void killServer()) }))
    expect(error).toMatchObject({ code: 'DISK_WRITE_FAILED', retryable: true })
    expect(await finishAndCompare(setting)).toBeGreaterThanOrEqual(8 * MIB)
  })

  it('goes on when the whole process was killed, more than once', async () => {
    const setting = await slowTransfer()
    for (const goalBytes of [4 * MIB, 12 * MIB]) await transferUntilKilled(setting, goalBytes)
    expect(await finishAndCompare(setting)).toBeGreaterThanOrEqual(12 * MIB)
  })

  it('starts again when the source shows another snapshot', async () => {
    const setting = await slowTransfer()
    await transferUntilKilled(setting, 4 * MIB)
    setting.request.snapshotId = 'snapshot-2'
    expect(await finishAndCompare(setting)).toBe(0)
  })

  it('reads over a torn last line of the journal', async () => {
    const setting = await slowTransfer()
    await transferUntilKilled(setting, 4 * MIB)
    await appendFile(join(setting.request.target.folder, 'disk-0.journal'), '{"snapshotId":"snapshot-1","positionBy')
    expect(await finishAndCompare(setting)).toBeGreaterThanOrEqual(4 * MIB)
  })

  it('starts again when the image was damaged', async () => {
    const setting = await slowTransfer()
    await transferUntilKilled(setting, 4 * MIB)
    await writeFile(targetOf(setting.request), 'not an image any more')
    expect(await finishAndCompare(setting)).toBe(0)
  })

  it('does not copy a finished disk again, whatever failed after it', async () => {
    const setting = await slowTransfer({ rateLimitBytesPerSecond: null })
    const first = await transferDisk(setting.request)
    expect(await transferDisk(setting.request)).toEqual({ ...first, resumedAtBytes: sizeBytes })
    // Killed while the checksums were written a second time.
    await truncate(join(setting.request.target.folder, 'disk-0.blocks'), digestPosition(blockCount(sizeBytes)) + 2)
    expect(await transferDisk(setting.request)).toEqual({ ...first, resumedAtBytes: sizeBytes })
  })

  it('does not delete what it has when the image cannot be checked at the moment', async () => {
    const setting = await slowTransfer()
    await transferUntilKilled(setting, 4 * MIB)
    const image = targetOf(setting.request)
    await rename(image, `${image}.away`)
    await symlink(image, image)
    expect(await failureOf(transferDisk(setting.request))).toMatchObject({ code: 'DISK_WRITE_FAILED', retryable: true })
    await rename(`${image}.away`, image)
    expect(await finishAndCompare(setting)).toBeGreaterThanOrEqual(4 * MIB)
  })
})

it.each(['zstd', 'none'] as const)('writes again over everything that lies beyond the checkpoint (%s)', async (compression) => {
  const setting = await slowTransfer({ rateLimitBytesPerSecond: null })
  setting.request.target.compression = compression
  await transferDisk(setting.request)
  // The worst crash: every cluster reached the image, and the journal knows only the first of them.
  await writeJournal(setting.request, 4 * MIB)
  expect(await finishAndCompare(setting)).toBe(4 * MIB)
  expect(await checkImage(join(setting.folder, 'backup/disk-0.qcow2'))).toEqual({ corruptions: 0, leaks: 0 })
})

it.each(['zstd', 'none'] as const)('goes on with an incremental (%s)', async (compression) => {
  const setting = await slowTransfer({ rateLimitBytesPerSecond: null })
  setting.request.target.compression = compression
  const full = await transferDisk(setting.request)
  const parent = await publish({ folder: setting.folder, backupId: 'backup', source: setting.request.source }, full)
  await writeImage(setting.raw, sizeBytes, [
    [0, Buffer.alloc(2 * MIB)],
    [2 * MIB, noise(10 * MIB, 8)],
    [12 * MIB, prose(6 * MIB, 9)],
    [18 * MIB, Buffer.alloc(5 * MIB)],
  ])
  const { source } = setting.request
  const request = await transferRequest({ folder: setting.folder, backupId: 'next', source, parent, compression })
  const slow = { ...request, rateLimitBytesPerSecond: 8 * MIB, checkpointIntervalBytes: 2 * MIB }
  await transferUntilKilled({ ...setting, request: slow }, 8 * MIB)
  const result = await transferDisk(request)
  const links = await publish({ folder: setting.folder, backupId: 'next', source, parent }, result)
  expect(result.resumedAtBytes).toBeGreaterThanOrEqual(8 * MIB)
  expect(await compareImages(await checkChain(links), { path: setting.raw, format: 'raw' })).toBe(true)
})

async function writeJournal(request: TransferRequest, positionBytes: number): Promise<void> {
  const { snapshotId, target } = request
  const line = { snapshotId, parentBackupId: null, sizeBytes, compression: target.compression, positionBytes, writtenBytes: 7 }
  await writeFile(join(target.folder, 'disk-0.journal'), `${JSON.stringify(line)}\n`)
}

/** Runs the transfer in a process of its own and kills that once its checkpoints have passed `goalBytes`. */
async function transferUntilKilled({ request }: Setting, goalBytes: number): Promise<void> {
  const script = `import { transferDisk } from '${import.meta.dirname}/transfer.ts'
    transferDisk(${JSON.stringify(request)}, { onProgress: (progress) => console.log('at ' + progress.checkpointBytes) })`
  let reachedBytes = 0
  const child = startTool(process.execPath, ['--input-type=module-typescript', '--eval', script], {
    onOutput: (text) => {
      for (const [, bytes] of text.matchAll(/at (\d+)/g)) reachedBytes = Number(bytes)
    },
  })
  onTestFinished(() => child.stop(0))
  await vi.waitFor(() => expect(reachedBytes, child.stderrTail()).toBeGreaterThanOrEqual(goalBytes), {
    timeout: 60_000,
    interval: 20,
  })
  process.kill(child.pid, 'SIGKILL')
  await child.exited
}

describe('on abort', () => {
  it('keeps what it has, leaves no process and no socket, and gives the reason', async () => {
    const setting = await slowTransfer()
    const controller = new AbortController()
    const reason = new Error('the user said stop')
    const onProgress = onceUnderWay(() => controller.abort(reason))
    await expect(transferDisk(setting.request, { signal: controller.signal, onProgress })).rejects.toBe(reason)
    expect(await processesNaming(targetOf(setting.request))).toEqual([])
    // The one socket left is the source's, which is still served.
    expect(await readdir(setting.request.runFolder)).toHaveLength(1)
    expect(await finishAndCompare(setting)).toBeGreaterThanOrEqual(8 * MIB)
  })

  it('does not begin under an aborted signal', async () => {
    const setting = await slowTransfer()
    const reason = new Error('too late')
    await expect(transferDisk(setting.request, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(await readdir(setting.request.target.folder)).toEqual([])
  })
})

describe('a source that fails', () => {
  /** nbdkit in front of a file; every other setting is the test's. */
  async function failingTransfer(
    args: (raw: string, folder: string) => string[],
    change: Partial<TransferRequest> = {},
  ): Promise<Setting> {
    const setting = await slowTransfer({ rateLimitBytesPerSecond: null, ...change })
    const server = await startNbdkit(...args(setting.raw, setting.folder))
    setting.request.source = { ...setting.request.source, endpoint: server.endpoint }
    return setting
  }

  it('now and then costs nothing but another try', async () => {
    const setting = await failingTransfer((raw) => ['--filter=error', 'file', raw, 'error-pread=EIO', 'error-pread-rate=4%'])
    expect(await finishAndCompare(setting)).toBe(0)
  })

  it('recovers when the trouble goes away while it tries', async () => {
    const setting = await failingTransfer((raw, folder) => [
      '--filter=error',
      'file',
      raw,
      'error-pread=EIO',
      'error-pread-rate=100%',
      `error-file=${join(folder, 'trouble')}`,
    ])
    await writeFile(join(setting.folder, 'trouble'), '')
    const finished = finishAndCompare(setting)
    await vi.waitFor(async () => expect(await processesNaming(targetOf(setting.request))).not.toEqual([]), { timeout: 60_000 })
    await rm(join(setting.folder, 'trouble'))
    expect(await finished).toBe(0)
  })

  it('for good fails the disk at the right place, and never yields zeroes', async () => {
    const badOffset = 9 * MIB
    const setting = await failingTransfer(
      (raw) => [
        'eval',
        `get_size=echo ${sizeBytes}`,
        `pread=if [ $4 -le ${badOffset} ] && [ $(($4 + $3)) -gt ${badOffset} ]; then echo 'EIO bad sector' >&2; exit 1; fi
         dd if=${raw} skip=$4 count=$3 iflag=skip_bytes,count_bytes,fullblock bs=256k status=none`,
      ],
      { checkpointIntervalBytes: MIB },
    )
    const error = await failureOf(transferDisk(setting.request))
    expect(error).toMatchObject({
      code: 'DISK_READ_FAILED',
      retryable: false,
      details: { disk: 0, offset: badOffset, length: 262_144 },
    })
    const journal =
      (await readFile(join(setting.request.target.folder, 'disk-0.journal'), 'utf8')).trim().split('\n').at(-1) ?? ''
    expect(JSON.parse(journal)).toMatchObject({ positionBytes: badOffset })
  })

  it('by silence is given up after the deadline, and may be tried again', async () => {
    const setting = await failingTransfer((raw) => ['--filter=delay', 'file', raw, 'delay-read=60'], { sourceTimeoutMs: 200 })
    expect(await failureOf(transferDisk(setting.request))).toMatchObject({ code: 'DISK_READ_FAILED', retryable: true })
  })
})

it('says what is full when the repository has no more room', async ({ skip }) => {
  const setting = await slowTransfer({ rateLimitBytesPerSecond: null })
  const small = join(setting.folder, 'small')
  await mkdir(small)
  await runTool('mount', ['-t', 'tmpfs', '-o', 'size=5m', 'tmpfs', small], { timeoutMs: 10_000 }).catch(() =>
    skip('needs the right to mount a file system'),
  )
  onTestFinished(async () => void (await runTool('umount', [small], { timeoutMs: 10_000 })))
  setting.request.target.folder = small
  const error = await failureOf(transferDisk(setting.request))
  expect(error).toMatchObject({ code: 'INSUFFICIENT_STORAGE', retryable: false, details: { disk: 0 } })
  expect(await processesNaming(targetOf(setting.request))).toEqual([])
})

it('keeps to its rate limit', async () => {
  const setting = await slowTransfer({ rateLimitBytesPerSecond: 8 * MIB })
  const rates: number[] = []
  const startedMs = performance.now()
  await transferDisk(setting.request, { onProgress: ({ ratePerSecond }) => rates.push(ratePerSecond) })
  const seconds = (performance.now() - startedMs) / 1_000
  // 18 MiB hold data, 6 MiB are a hole that is not read.
  expect(seconds).toBeGreaterThan((18 * MIB) / (8 * MIB) - 0.5)
  expect(seconds).toBeLessThan(30)
  expect(rates.length).toBeGreaterThan(2)
})

it('never blocks the event loop of its process', async () => {
  const setting = await slowTransfer({ rateLimitBytesPerSecond: null })
  const big = join(setting.folder, 'big.raw')
  await writeImage(big, 512 * MIB, [[0, noise(384 * MIB, 9)]])
  const served = await serveImage(big, 'raw', { runFolder: setting.request.runFolder })
  onTestFinished(() => served.close())
  const source = { ...setting.request.source, endpoint: served.endpoint, sizeBytes: 512 * MIB }
  const request = { ...setting.request, source, target: { ...setting.request.target, sizeBytes: 512 * MIB } }
  // A thread that does nothing shows what the machine itself takes away; a busy machine must not look like a blocked loop.
  const idle = new Worker(
    `const { parentPort } = require('node:worker_threads')
     const delays = require('node:perf_hooks').monitorEventLoopDelay({ resolution: 10 })
     delays.enable()
     parentPort.once('message', () => { parentPort.postMessage(delays.max / 1e6); parentPort.close() })`,
    { eval: true },
  )
  onTestFinished(async () => void (await idle.terminate()))
  await once(idle, 'online')
  const delays = monitorEventLoopDelay({ resolution: 10 })
  delays.enable()
  await transferDisk(request)
  delays.disable()
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- the rule is about windows; threads have no origin
  idle.postMessage('how long?')
  const [idleMs] = await once(idle, 'message')
  expect(idleMs).toBeTypeOf('number')
  expect(delays.max / 1e6 - Number(idleMs)).toBeLessThan(200)
})
