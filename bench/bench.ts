/**
 * `npm run bench`: what Holdfast costs, against the programs an administrator would use by hand, in the same run on the same data.
 *
 * Disks are noisy, so every figure is taken in pairs (ours, theirs, ours, theirs …) and given as the median of the pairs' ratios.
 * Both sides end with the data on stable storage: `qemu-img convert` is followed by a sync. It runs twice: as people type it, which is what
 * the budgets are about, and with the options that suit this machine best, for honesty.
 * Files of a backup are read against `cat` on a mount in this host's kernel.
 * A running libvirt domain is backed up against virtnbdbackup, and its writes are timed while a repository is slow, where those are installed.
 * Options: `--size-mib N` (default 1024), `--rounds N` (default 5), `--folder PATH`, `--only images|live|mounts`.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { startPrivateLibvirt } from '../dev/private-libvirt.ts'
import type { PrivateLibvirt } from '../dev/private-libvirt.ts'
import type { Stack } from '../dev/stack.ts'
import type { ChainLink } from '../disks/chain.ts'
import type { Compression } from '../domain/backup.ts'
import { startQemuNbd } from '../tools/qemu-nbd.ts'
import type { RunningTool } from '../tools/run-tool.ts'
import { benchDisk } from './bench-disk.ts'
import { benchLatency } from './live-latency.ts'
import { benchLiveVm } from './live-vm.ts'
import { printFigures } from './figures.ts'
import type { Figure } from './figures.ts'
import { measure, stopMeasuring } from './measure.ts'
import type { Cost } from './measure.ts'
import { benchMounts, mountObstacle } from './mounts/bench-mounts.ts'
import { printReport, summarize } from './report.ts'
import type { Row } from './report.ts'
import { pairs, runStep } from './runs.ts'
import { changeSeededDisk, writeSeededDisk } from './seeded-disk.ts'
import type { TransferStep } from './steps/step-input.ts'
import { virtnbdbackupObstacle } from './virtnbdbackup.ts'

const { values } = parseArgs({
  options: {
    'size-mib': { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '5' },
    folder: { type: 'string' },
    only: { type: 'string' },
  },
})
const sizeBytes = Number(values['size-mib']) * 1024 ** 2
const rounds = Number(values.rounds)
const folder = await mkdtemp(join(resolve(values.folder ?? '.holdfast'), 'bench-')).catch(async () => {
  await mkdir(resolve('.holdfast'), { recursive: true })
  return mkdtemp(join(resolve('.holdfast'), 'bench-'))
})
const runFolder = await mkdtemp(join(tmpdir(), 'hf-bench-'))
const sourceSocket = join(runFolder, 'source.sock')
let server: RunningTool | undefined
let libvirt: PrivateLibvirt | undefined
let stack: Stack | undefined
let cleaning: Promise<void> | undefined

/** Options of `qemu-img convert`. */
const plain = ''
const tuned = '-t none -m 16'
type Manner = typeof plain | typeof tuned

// Not once: a signal without a listener at that moment ends us at once.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void cleanUp().finally(() => process.exit(130)))
try {
  const rows: Row[] = []
  const figures: Figure[] = []
  if (measures('images')) for (const kind of ['mixed', 'incompressible'] as const) rows.push(...(await benchKind(kind)))
  if (measures('live')) rows.push(...(await benchLive()))
  if (measures('mounts')) {
    const mounts = await benchFiles()
    rows.push(...mounts.rows)
    figures.push(...mounts.figures)
  }
  printReport(rows)
  if (figures.length > 0) printFigures(figures)
  await writeResults(rows, figures)
} finally {
  await cleanUp()
}

function measures(part: 'images' | 'live' | 'mounts'): boolean {
  return values.only === undefined || values.only === part
}

/** Once, also when a signal comes while it runs. Domains outlive us unless they are told. */
function cleanUp(): Promise<void> {
  return (cleaning ??= removeAll())
}

async function removeAll(): Promise<void> {
  await stopMeasuring()
  await server?.stop(5_000)
  await libvirt?.stop()
  await stack?.stop()
  // What was stopped may need a moment to let go.
  const patiently = { recursive: true, force: true, maxRetries: 5 } as const
  await rm(folder, patiently)
  await rm(runFolder, patiently)
}

async function benchLive(): Promise<Row[]> {
  const obstacle = await virtnbdbackupObstacle(runFolder, folder)
  if (obstacle !== null) {
    console.log(`Skipped: the live VM against virtnbdbackup, because ${obstacle}.\n`)
    return []
  }
  const scratchFolder = join(runFolder, 's')
  await mkdir(scratchFolder)
  libvirt = await startPrivateLibvirt(join(runFolder, 'l'))
  const bench = { libvirt, folder, runFolder, scratchFolder, sizeBytes, rounds }
  const rows = await benchLiveVm(bench)
  await benchLatency(bench)
  return rows
}

async function benchFiles(): Promise<{ rows: Row[]; figures: Figure[] }> {
  const obstacle = await mountObstacle()
  if (obstacle === null) return benchMounts({ folder, runFolder, sizeBytes, rounds, onStack: (started) => (stack = started) })
  console.log(`Skipped: files of a backup, because ${obstacle}.\n`)
  return { rows: [], figures: [] }
}

async function benchKind(kind: 'mixed' | 'incompressible'): Promise<Row[]> {
  const disk = join(folder, `${kind}.raw`)
  console.error(`Writing ${values['size-mib']} MiB of seeded ${kind} data …`)
  await writeSeededDisk(disk, sizeBytes, kind)
  await serve(disk)
  const full = await pairs(
    'full',
    rounds,
    () => transfer('full', 'zstd', null),
    () => convertToQcow2('zstd', plain),
  )
  const fullTuned = await pairs(
    'full, tuned',
    rounds,
    () => transfer('full', 'zstd', null),
    () => convertToQcow2('zstd', tuned),
  )
  const raw = await pairs(
    'full, uncompressed',
    rounds,
    () => transfer('raw', 'none', null),
    () => convertToQcow2('none', plain),
  )
  const rawTuned = await pairs(
    'full, uncompressed, tuned',
    rounds,
    () => transfer('raw', 'none', null),
    () => convertToQcow2('none', tuned),
  )
  const reading = await pairs(
    'reading',
    rounds,
    () => transfer('raw', 'none', null),
    () => nbdcopyNowhere(),
  )
  const { link: base } = await transfer('full', 'zstd', null)
  const links = [base]
  const verify = await pairs(
    'verify',
    rounds,
    () => runStep('verify', { links, runFolder, targetPath: '' }, folder),
    () => sha256(disk),
  )
  const restore = await pairs(
    'restore',
    rounds,
    () => restoreRaw(links),
    () => convertToRaw(base, plain),
  )
  const restoreTuned = await pairs(
    'restore, tuned',
    rounds,
    () => restoreRaw(links),
    () => convertToRaw(base, tuned),
  )
  const bytes = sizeBytes
  const rows: Row[] = [
    { what: `full, zstd, ${kind}`, against: 'qemu-img convert -c', ...full, bytes, budget: atMost(1) },
    { what: `full, zstd, ${kind}`, against: `the same, ${tuned} -W`, ...fullTuned, bytes },
    { what: `full, uncompressed, ${kind}`, against: 'qemu-img convert', ...raw, bytes, budget: atMost(1) },
    { what: `full, uncompressed, ${kind}`, against: `the same, ${tuned} -W`, ...rawTuned, bytes },
    { what: `full, uncompressed, ${kind}`, against: 'nbdcopy to null: reading alone', ...reading, bytes },
    {
      what: `verify, ${kind}`,
      against: 'openssl sha256 of the raw disk',
      ...verify,
      bytes,
      budget: atMost(1 / 0.8, '≥ 0.8 of SHA-256'),
    },
    { what: `restore to raw, ${kind}`, against: 'qemu-img convert', ...restore, bytes, budget: atMost(1) },
    { what: `restore to raw, ${kind}`, against: `the same, ${tuned}`, ...restoreTuned, bytes },
  ]
  rows.push(await benchIncremental(kind, disk, base, full.ours))
  return rows
}

async function benchIncremental(kind: string, disk: string, base: ChainLink, full: Cost[]): Promise<Row> {
  await server?.stop(5_000)
  await changeSeededDisk(disk, sizeBytes, 0.01, 1)
  await serve(disk)
  const ours: Cost[] = []
  for (let round = 0; round < rounds; round += 1) ours.push((await transfer('incremental', 'zstd', [base])).cost)
  const budget = {
    text: '≤ 3 % of the full + 2 s',
    holds: ({ ours: o, theirs: t }: ReturnType<typeof summarize>) => o.wallSeconds <= 0.03 * t.wallSeconds + 2,
  }
  return { what: `incremental, 1 % changed, ${kind}`, against: 'our full', ours, theirs: full, bytes: sizeBytes, budget }
}

async function serve(disk: string): Promise<void> {
  await server?.stop(5_000)
  server = await startQemuNbd({
    blockGraph: { filename: disk, format: 'raw' },
    socketPath: sourceSocket,
    exportName: '',
    readOnly: true,
    connections: 8,
    cache: 'writeback',
    aio: 'threads',
  })
}

async function transfer(
  backupId: string,
  compression: Compression,
  parent: ChainLink[] | null,
): Promise<{ cost: Cost; link: ChainLink }> {
  const target = join(folder, backupId)
  await rm(target, { recursive: true, force: true })
  await mkdir(target, { recursive: true })
  const input: TransferStep = { sourceSocket, sizeBytes, folder: target, backupId, compression, parent, runFolder }
  const cost = await runStep('transfer', input, folder)
  return { cost, link: { backupId, folder: target, disk: benchDisk(input, cost.output) } }
}

/** Ends with the data on stable storage, as our side does. `options` are words for the shell, never data. */
async function convert(options: string, source: string, target: string): Promise<Cost> {
  await rm(target, { force: true })
  return measure('sh', ['-ec', `qemu-img convert ${options} "$1" "$2"; sync "$2"`, 'sh', source, target])
}

async function convertToQcow2(compression: Compression, manner: Manner): Promise<Cost> {
  const compressed = compression === 'zstd' ? '-c -o compression_type=zstd' : ''
  const inAnyOrder = manner === tuned ? '-W' : ''
  return convert(
    `-f raw -O qcow2 ${manner} ${inAnyOrder} ${compressed}`,
    `nbd+unix:///?socket=${sourceSocket}`,
    join(folder, 'convert.qcow2'),
  )
}

async function convertToRaw(base: ChainLink, manner: Manner): Promise<Cost> {
  return convert(`-f qcow2 -O raw ${manner}`, join(base.folder, 'disk-0.qcow2'), join(folder, 'converted.raw'))
}

async function nbdcopyNowhere(): Promise<Cost> {
  return measure('nbdcopy', [`nbd+unix:///?socket=${sourceSocket}`, 'null:'])
}

async function sha256(disk: string): Promise<Cost> {
  return measure('openssl', ['dgst', '-sha256', disk])
}

async function restoreRaw(links: ChainLink[]): Promise<Cost> {
  const targetPath = join(folder, 'restored.raw')
  await rm(targetPath, { force: true })
  return runStep('restore', { links, runFolder, targetPath }, folder)
}

function atMost(ratio: number, text = `≤ ${ratio.toFixed(1)}×`): NonNullable<Row['budget']> {
  return { text, holds: (summary) => summary.wallRatio <= ratio }
}

async function writeResults(rows: readonly Row[], figures: readonly Figure[]): Promise<void> {
  const results = resolve(import.meta.dirname, 'results')
  await mkdir(results, { recursive: true })
  const path = join(results, 'latest.json')
  const machine = { cpus: cpus().length, model: cpus()[0]?.model ?? '' }
  const lean = rows.map((row) => ({ ...row, budget: row.budget?.text, summary: summarize(row) }))
  await writeFile(
    path,
    `${JSON.stringify({ at: new Date().toISOString(), sizeBytes, rounds, machine, rows: lean, figures }, null, 2)}\n`,
  )
  console.log(`\nAll runs: ${path}`)
}
