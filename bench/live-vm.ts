/**
 * A running libvirt domain, backed up by Holdfast and by virtnbdbackup: the same disk, in turn, and what both restore is compared with what
 * the guest had. QEMU's own work for both is not counted: it is the same libvirt job, and it runs in the guest's process.
 */
import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { ChainLink } from '../disks/chain.ts'
import type { Compression } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import { startLiveDomain } from '../dev/live-domain.ts'
import type { LiveDomain } from '../dev/live-domain.ts'
import type { PrivateLibvirt } from '../dev/private-libvirt.ts'
import { runTool } from '../tools/run-tool.ts'
import { benchDisk } from './bench-disk.ts'
import type { Cost } from './measure.ts'
import type { Row } from './report.ts'
import { pairs, runStep } from './runs.ts'
import { changeSeededDisk, changedOffsets, writeSeededDisk } from './seeded-disk.ts'
import type { LiveStep } from './steps/step-input.ts'
import { storedBytes, virtnbdbackup, virtnbdrestore } from './virtnbdbackup.ts'

const MIB = 1024 ** 2
const CHANGED_SHARE = 0.01

export interface LiveBench {
  libvirt: PrivateLibvirt
  folder: string
  /** Short: unix sockets go below it. */
  runFolder: string
  scratchFolder: string
  sizeBytes: number
  rounds: number
}

interface LiveVm {
  domain: LiveDomain
  /** Raw image of what the guest sees. */
  truth: string
}

/** Our chain of one VM, oldest first, and the change ID that the next incremental starts from. */
interface Chain {
  links: ChainLink[]
  changeId: string | null
}

export async function benchLiveVm(bench: LiveBench): Promise<Row[]> {
  console.error(`Writing ${bench.sizeBytes / MIB} MiB of seeded mixed data into a running domain …`)
  const truth = join(bench.folder, 'live.raw')
  await writeSeededDisk(truth, bench.sizeBytes, 'mixed')
  const vm = { domain: await startDomain(bench, 'live', truth), truth }
  const rows = await benchFull(bench, vm)
  // virtnbdbackup refuses a domain that has checkpoints of others, so the chains grow on two domains with the same disk.
  const ours = await startDomain(bench, 'live-ours', truth)
  rows.push(...(await benchChain(bench, vm, ours)))
  return rows
}

async function startDomain(bench: LiveBench, name: string, truth: string): Promise<LiveDomain> {
  const disk = join(bench.folder, `${name}.qcow2`)
  await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', truth, disk], { timeoutMs: 600_000 })
  return startLiveDomain(bench.libvirt, name, [disk])
}

async function benchFull(bench: LiveBench, vm: LiveVm): Promise<Row[]> {
  const rows: Row[] = []
  for (const [compression, compress, against] of manners) {
    const label = `live full, ${compression === 'none' ? 'uncompressed' : compression}`
    const theirs = { ...bench, domain: vm.domain, folder: theirFolder(bench), level: 'full' as const, compress }
    const measured = await pairs(
      `${label}, against ${against}`,
      bench.rounds,
      () => backUp(bench, vm.domain, { compression, outcome: 'abandoned' }),
      () => virtnbdbackup(theirs),
    )
    const stored = {
      ours: await storedBytes(join(bench.folder, 'live-full'), '.qcow2'),
      theirs: await storedBytes(theirs.folder, '.data'),
    }
    const budget = { text: '≤ 0.33×', holds: ({ wallRatio }: { wallRatio: number }) => wallRatio <= 1 / 3 }
    rows.push({ what: label, against, ...measured, bytes: bench.sizeBytes, stored, budget })
  }
  return rows
}

const manners: readonly [Compression, boolean, string][] = [
  ['zstd', false, 'virtnbdbackup'],
  ['zstd', true, 'virtnbdbackup -z (lz4)'],
  ['none', false, 'virtnbdbackup'],
]

async function benchChain(bench: LiveBench, theirs: LiveVm, ours: LiveDomain): Promise<Row[]> {
  const options = { ...bench, domain: theirs.domain, folder: theirFolder(bench), compress: false }
  await virtnbdbackup({ ...options, level: 'full' })
  const chain: Chain = { links: [], changeId: null }
  await continueChain(bench, ours, chain)
  const incremental = await pairs(
    'live incremental',
    bench.rounds,
    async (round) => {
      await change(bench, [theirs.domain, ours], theirs.truth, round)
      return continueChain(bench, ours, chain)
    },
    () => virtnbdbackup({ ...options, level: 'inc' }),
  )
  const restored = await benchRestore(bench, theirs.truth, chain)
  const restoredLinks = chain.links.length
  await wipe([theirs.domain, ours], theirs.truth)
  await continueChain(bench, ours, chain)
  await virtnbdbackup({ ...options, level: 'inc' })
  console.log(await afterWiping(bench, theirs.truth, chain))
  const [bytes, against] = [bench.sizeBytes, 'virtnbdbackup']
  return [
    { what: 'live incremental, 1 % changed', against, ...incremental, bytes },
    { what: `restore of a chain of ${restoredLinks} to QCOW2`, against: 'virtnbdrestore', ...restored, bytes },
  ]
}

/** Restores with both, and throws when either differs from what the guest had. */
async function benchRestore(bench: LiveBench, truth: string, chain: Chain): Promise<{ ours: Cost[]; theirs: Cost[] }> {
  const measured = await pairs(
    'live restore',
    bench.rounds,
    () => restore(bench, chain),
    async () => (await virtnbdrestore(bench.libvirt, theirFolder(bench), join(bench.folder, 'restored-theirs'))).cost,
  )
  const { path } = await virtnbdrestore(bench.libvirt, theirFolder(bench), join(bench.folder, 'restored-theirs'))
  if (!(await sameContent(truth, ourRestored(bench)))) throw differs('Holdfast')
  if (!(await sameContent(truth, path))) throw differs('virtnbdbackup')
  return measured
}

async function afterWiping(bench: LiveBench, truth: string, chain: Chain): Promise<string> {
  await restore(bench, chain)
  if (!(await sameContent(truth, ourRestored(bench)))) throw differs('Holdfast')
  const { path } = await virtnbdrestore(bench.libvirt, theirFolder(bench), join(bench.folder, 'restored-theirs'))
  const theirs = (await sameContent(truth, path)) ? 'identical as well' : 'the old data is back: it differs from the guest’s disk'
  return `Restored after the guest wiped 4 MiB between two incrementals: Holdfast identical; virtnbdbackup: ${theirs}.`
}

async function backUp(
  bench: LiveBench,
  domain: LiveDomain,
  { compression, outcome, chain }: { compression: Compression; outcome: LiveStep['outcome']; chain?: Chain },
): Promise<{ cost: Cost; link: ChainLink; changeId: string }> {
  const backupId = chain ? `live-${chain.links.length}` : 'live-full'
  const folder = join(bench.folder, backupId)
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const input: LiveStep = {
    uri: bench.libvirt.uri,
    scratchFolder: bench.scratchFolder,
    uuid: domain.uuid,
    backupId,
    folder,
    runFolder: bench.runFolder,
    compression,
    parent: chain && chain.links.length > 0 ? chain.links : null,
    parentChangeId: chain?.changeId ?? null,
    outcome,
    rateLimitBytesPerSecond: null,
  }
  const cost = await runStep('backup-live', input, bench.folder)
  const { changeId } = z.object({ changeId: z.string() }).parse(JSON.parse(cost.output))
  const disk = benchDisk({ parent: input.parent, sizeBytes: bench.sizeBytes }, cost.output)
  return { cost, link: { backupId, folder, disk }, changeId }
}

async function continueChain(bench: LiveBench, domain: LiveDomain, chain: Chain): Promise<Cost> {
  const { cost, link, changeId } = await backUp(bench, domain, { compression: 'zstd', outcome: 'published', chain })
  chain.links = [...chain.links, link]
  chain.changeId = changeId
  return cost
}

/** The same writes in both guests and in the truth. */
async function change(bench: LiveBench, domains: readonly LiveDomain[], truth: string, generation: number): Promise<void> {
  await changeSeededDisk(truth, bench.sizeBytes, CHANGED_SHARE, generation)
  const piece = join(bench.runFolder, 'piece')
  const file = await open(truth)
  try {
    for (const offset of changedOffsets(bench.sizeBytes, CHANGED_SHARE)) {
      const { buffer } = await file.read(Buffer.alloc(MIB), 0, MIB, offset)
      await writeFile(piece, buffer)
      for (const domain of domains) await domain.writeDisk(0, `write -s ${piece} ${offset} ${MIB}`)
    }
  } finally {
    await file.close()
  }
}

/** Ranges that held data become zeroes, as a guest does that wipes or trims. */
async function wipe(domains: readonly LiveDomain[], truth: string): Promise<void> {
  for (const domain of domains) await domain.writeDisk(0, 'write -z -u 20M 4M')
  const file = await open(truth, 'r+')
  await file.write(Buffer.alloc(4 * MIB), 0, 4 * MIB, 20 * MIB)
  await file.close()
}

async function restore(bench: LiveBench, chain: Chain): Promise<Cost> {
  await rm(ourRestored(bench), { force: true })
  const input = { links: chain.links, runFolder: bench.runFolder, targetPath: ourRestored(bench), targetFormat: 'qcow2' }
  return runStep('restore', input, bench.folder)
}

async function sameContent(truth: string, restored: string): Promise<boolean> {
  const words = ['compare', '-f', 'raw', '-F', 'qcow2', truth, restored]
  return (await runTool('qemu-img', words, { timeoutMs: 600_000, allowExitCodes: [1] })).exitCode === 0
}

function ourRestored(bench: LiveBench): string {
  return join(bench.folder, 'restored-ours.qcow2')
}

function theirFolder(bench: LiveBench): string {
  return join(bench.folder, 'virtnbdbackup')
}

function differs(tool: string): HoldfastError {
  return new HoldfastError('INTERNAL', `What ${tool} restored differs from the guest's disk.`)
}
