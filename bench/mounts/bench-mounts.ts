/**
 * Files of backups: how long until they are seen, how fast they are read, and what memory that takes. Every run is on a fresh mount, whose caches are
 * empty, of images that the host has in its cache, for both sides alike.
 */
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Stack } from '../../dev/stack.ts'
import type { DriverName } from '../../domain/restore-mount.ts'
import type { Figure } from '../figures.ts'
import type { Cost } from '../measure.ts'
import type { Row, Summary } from '../report.ts'
import { pairs, runStep } from '../runs.ts'
import type { FolderStep, MountStep } from '../steps/step-input.ts'
import { benchApi } from './bench-api.ts'
import { makeMountDisk } from './mount-disk.ts'
import type { MountDisk } from './mount-disk.ts'

const MIB = 1024 ** 2
const FIRST_LISTING_SECONDS = 2
const FIRST_PAGE_SECONDS = 2
const DOWNLOAD_MEMORY_MIB = 100
const ISOLATED_SHARE = 0.3
const ISOLATED_BYTES_PER_SECOND = 60 * MIB
const KERNEL_SHARE = 0.8

export interface MountBench {
  folder: string
  /** Short: unix sockets go below it. */
  runFolder: string
  sizeBytes: number
  rounds: number
  /** Told of the Holdfast that is started, so that it can be stopped at any time. */
  onStack(stack: Stack): void
}

interface Bench extends MountBench {
  disk: MountDisk
}

type Step = 'read-mount' | 'download-mount' | 'cat-mount'

const times = z.object({ firstListing: z.number(), page: z.number().nullable(), read: z.number().nullable() })
const memory = z.object({ idleBytes: z.number(), peakBytes: z.number(), mountBytes: z.number(), seconds: z.number() })

/** Why mounts cannot be measured here; `null` when they can. */
export async function mountObstacle(): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'that needs root'
  for (const device of ['/dev/fuse', '/dev/loop-control', '/usr/bin/linux.uml']) {
    const there = await access(device).then(
      () => true,
      () => false,
    )
    if (!there) return `this machine has no ${device}`
  }
  return null
}

export async function benchMounts(options: MountBench): Promise<{ rows: Row[]; figures: Figure[] }> {
  console.error(`Making a disk of 100 GiB with ${options.sizeBytes / MIB} MiB of data, as a chain of ten …`)
  const bench: Bench = { ...options, disk: await makeMountDisk({ ...options, dataBytes: options.sizeBytes }) }
  const { plan } = bench.disk
  const rows = [
    ...(await benchFile(bench, 'mixed', plan.mixed)),
    ...(await benchFile(bench, 'incompressible', plan.incompressible)),
  ]
  const figures = [...waits(rows, plan.crowdFiles), ...(await benchFolder(bench))]
  return { rows, figures: [...figures, ...(await benchApi({ ...options, ...bench.disk }))] }
}

async function benchFile(bench: Bench, kind: string, read: string): Promise<Row[]> {
  const compare = async (what: string, ours: Step, driver: DriverName, budget: Row['budget']): Promise<Row> => {
    const measured = await pairs(
      `${what}, ${kind}`,
      bench.rounds,
      () => run(bench, ours, driver, read),
      () => run(bench, 'cat-mount', driver, read),
    )
    return {
      what: `${what}, ${kind}`,
      against: 'cat, kernel loop mount',
      ...measured,
      bytes: bench.disk.plan.fileBytes,
      ...(budget && { budget }),
    }
  }
  const isolated = isolatedBudget(bench.disk.plan.fileBytes)
  return [
    await compare('file, isolated reader', 'read-mount', 'user-mode-linux', isolated),
    await compare('file, isolated, by HTTP', 'download-mount', 'user-mode-linux', isolated),
    await compare('file, kernel driver', 'read-mount', 'kernel', kernelBudget),
    await compare('file, kernel, by HTTP', 'download-mount', 'kernel', undefined),
  ]
}

const kernelBudget: Row['budget'] = { text: `≥ ${KERNEL_SHARE} of cat`, holds: ({ wallRatio }) => wallRatio <= 1 / KERNEL_SHARE }

function isolatedBudget(bytes: number): NonNullable<Row['budget']> {
  const holds = ({ wallRatio, ours }: Summary): boolean =>
    wallRatio <= 1 / ISOLATED_SHARE && bytes / ours.wallSeconds >= ISOLATED_BYTES_PER_SECOND
  return { text: `≥ ${ISOLATED_SHARE} of cat, ≥ ${ISOLATED_BYTES_PER_SECOND / MIB} MiB/s`, holds }
}

/** Its wall time is that of the reading alone; the processor time is that of all, opening included. */
async function run(bench: Bench, step: Step, driver: DriverName, read: string): Promise<Cost> {
  const page = step === 'read-mount' ? bench.disk.plan.crowd : null
  const cost = await runStep(step, { ...mountStep(bench, driver), page, read }, bench.folder)
  return { ...cost, wallSeconds: times.parse(JSON.parse(cost.output)).read ?? Number.NaN }
}

function mountStep({ disk, runFolder, folder }: Bench, driver: DriverName): MountStep {
  return { driver, links: disk.links, runFolder, cacheFolder: join(folder, 'cache'), page: null, read: null }
}

/** Taken from the runs that read a file: each began with a mount and a listing. */
function waits(rows: readonly Row[], crowdFiles: number): Figure[] {
  const of = (what: string) =>
    rows
      .filter((row) => row.what.startsWith(`file, ${what},`))
      .flatMap((row) => row.ours.map((cost) => times.parse(JSON.parse(cost.output))))
  const waitsOf = (what: string): Figure[] => [
    {
      what: `mount to first listing, ${what}`,
      unit: 's',
      values: of(what).map((time) => time.firstListing),
      limit: FIRST_LISTING_SECONDS,
    },
    {
      what: `first 1000 of ${crowdFiles} names, ${what}`,
      unit: 's',
      values: of(what).map((time) => time.page ?? Number.NaN),
      limit: FIRST_PAGE_SECONDS,
    },
  ]
  return [...waitsOf('isolated reader'), ...waitsOf('kernel driver')]
}

/** Of the process that serves, more than before the download; once each: they are long. */
async function benchFolder(bench: Bench): Promise<Figure[]> {
  const { plan } = bench.disk
  const figures: Figure[] = []
  for (const format of ['zip', 'tar.gz'] as const) {
    const input: FolderStep = { ...mountStep(bench, 'user-mode-linux'), read: plan.heap, format }
    const { output } = await runStep('download-folder', input, bench.folder)
    const taken = memory.parse(JSON.parse(output))
    const what = `${((plan.heapFiles * plan.fileBytes) / 1024 ** 3).toFixed(1)} GiB as ${format}`
    console.error(`  ${what}: measured`)
    figures.push(
      {
        what: `${what}: memory more than idle`,
        unit: 'MiB',
        values: [(taken.peakBytes - taken.idleBytes) / MIB],
        limit: DOWNLOAD_MEMORY_MIB,
      },
      { what: `${what}: the mount's own processes`, unit: 'MiB', values: [taken.mountBytes / MIB] },
      { what: `${what}: time`, unit: 's', values: [taken.seconds] },
    )
  }
  return figures
}
