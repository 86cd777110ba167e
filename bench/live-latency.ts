/** What a guest notices of a backup whose repository is slow: its writes, timed inside QEMU. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { LiveDomain } from '../dev/live-domain.ts'
import { startLiveDomain } from '../dev/live-domain.ts'
import { runTool, startTool } from '../tools/run-tool.ts'
import type { RunningTool } from '../tools/run-tool.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { LiveBench } from './live-vm.ts'
import { median } from './report.ts'
import { stepCommand, stepEnvironment } from './runs.ts'
import { writeSeededDisk } from './seeded-disk.ts'
import type { LiveStep } from './steps/step-input.ts'

const WRITES = 200
const WRITE_BYTES = 64 * 1024
const SLOW_BYTES_PER_SECOND = 1024 ** 2
/** More than a guest's drivers take for a hiccup. */
const STALL_SECONDS = 1

/**
 * Writes of 64 KiB to clusters that hold data, each to another one, without a backup and while one is read at 1 MiB/s: every write then makes
 * QEMU keep the old cluster in the scratch file first. Prints both.
 */
export async function benchLatency(bench: LiveBench): Promise<void> {
  const raw = join(bench.folder, 'latency.raw')
  const disk = join(bench.folder, 'latency.qcow2')
  await writeSeededDisk(raw, bench.sizeBytes, 'incompressible')
  await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, disk], { timeoutMs: 600_000 })
  await rm(raw)
  const domain = await startLiveDomain(bench.libvirt, 'latency', [disk])
  const quiet = await timeWrites(bench, domain, 0)
  const backup = await startSlowBackup(bench, domain)
  const during = await timeWrites(bench, domain, WRITES)
  await backup.stop(30_000)
  const held = Math.max(...during) < STALL_SECONDS ? 'held' : 'MISSED'
  console.log(`\nA guest's writes of 64 KiB   median ms   99 % ms   worst ms`)
  console.log(`without a backup             ${cells(quiet)}`)
  console.log(`during one at 1 MiB/s        ${cells(during)}   no stall (< ${STALL_SECONDS} s): ${held}`)
}

function cells(seconds: readonly number[]): string {
  const sorted = [...seconds].sort((a, b) => a - b)
  const values = [median(seconds), sorted[Math.floor(sorted.length * 0.99)]!, sorted.at(-1)!]
  return values.map((value) => (value * 1000).toFixed(2).padStart(9)).join('  ')
}

/** Spread over the disk and never twice in one place. */
async function timeWrites(bench: LiveBench, domain: LiveDomain, first: number): Promise<number[]> {
  const stride = Math.floor(bench.sizeBytes / (2 * WRITES) / WRITE_BYTES) * WRITE_BYTES
  const seconds: number[] = []
  for (let write = first; write < first + WRITES; write += 1) {
    const said = await domain.writeDisk(0, `write -P 0x5a ${write * stride} ${WRITE_BYTES}`)
    // Of one operation: "… (10.5 MiB/sec and 3782.3915 ops/sec)".
    seconds.push(1 / Number(/and ([\d.]+) ops\/sec/.exec(said)?.[1]))
  }
  return seconds
}

async function startSlowBackup(bench: LiveBench, domain: LiveDomain): Promise<RunningTool> {
  const folder = join(bench.folder, 'latency-backup')
  await mkdir(folder, { recursive: true })
  const input: LiveStep = {
    uri: bench.libvirt.uri,
    scratchFolder: bench.scratchFolder,
    uuid: domain.uuid,
    backupId: 'latency',
    folder,
    runFolder: bench.runFolder,
    compression: 'zstd',
    parent: null,
    parentChangeId: null,
    outcome: 'abandoned',
    rateLimitBytesPerSecond: SLOW_BYTES_PER_SECOND,
  }
  const backup = startTool('node', stepCommand('backup-live', input), { env: stepEnvironment(bench.folder) })
  let ended = false
  void backup.exited.then(() => (ended = true))
  // libvirt refuses to tell of a job that does not run, or is just beginning.
  const hasBegun = (): Promise<boolean> =>
    bench.libvirt.ask('backup-dumpxml', domain.uuid).then(
      () => true,
      () => false,
    )
  while (!(await hasBegun())) {
    if (ended) throw new HoldfastError('INTERNAL', `The slow backup did not begin: ${backup.stderrTail()}`)
    await delay(100)
  }
  return backup
}
