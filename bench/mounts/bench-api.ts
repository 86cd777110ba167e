/** Files of a backup as people get at them: through API, Temporal and mover of a whole Holdfast that runs for it. The same disk, backed up once. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ApiClient, hasEnded } from '../../dev/demo/api-client.ts'
import { freePort } from '../../dev/ports.ts'
import { startStack } from '../../dev/stack.ts'
import type { Stack } from '../../dev/stack.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { Figure } from '../figures.ts'
import type { MountPlan } from '../steps/step-input.ts'

const MIB = 1024 ** 2
const LIMITS = { firstListingSeconds: 2, fileMibPerSecond: 60, memoryMib: 100 } as const

export interface ApiBench {
  folder: string
  rounds: number
  /** Raw. */
  image: string
  plan: MountPlan
  /** Told as soon as it runs, so that it can be stopped at any time. */
  onStack(stack: Stack): void
}

interface Asking {
  api: ApiClient
  backupId: string
}

const ids = { repository: z.object({ repository_id: z.string() }), backup: z.object({ backup_id: z.string() }) }
const mounted = z.object({ mount_id: z.string() })

export async function benchApi(bench: ApiBench): Promise<Figure[]> {
  console.error('Starting a Holdfast, and backing up the disk …')
  const stack = await startStack({
    home: join(bench.folder, 'home'),
    apiPort: await freePort(),
    temporalPort: await freePort(),
    uiPort: null,
  })
  bench.onStack(stack)
  try {
    const asking = await backUp(bench, stack)
    return [...(await benchMounting(bench, asking)), ...(await benchMemory(bench, stack, asking))]
  } finally {
    await stack.stop()
  }
}

async function backUp({ folder, image }: ApiBench, { apiUrl, firstAdmin }: Stack): Promise<Asking> {
  const api = new ApiClient(`${apiUrl}/api/v1`)
  await api.login(firstAdmin?.username ?? '', firstAdmin?.password ?? '')
  const path = join(folder, 'repository')
  await mkdir(path)
  const repository = { name: 'bench', type: 'local', config: { path } }
  const { repository_id } = await api.call('POST', '/repositories', ids.repository, repository)
  const vm = { vm_name: 'bench', source_type: 'disk-image', disks: [{ path: image, format: 'raw' }] }
  await api.call('POST', '/vm-contexts', z.object({}), vm)
  const request = { vm_name: 'bench', repository_id, backup_type: 'full' }
  const { backup_id: backupId } = await api.call('POST', '/backups', ids.backup, request)
  const done = await api.follow(() => api.backup(backupId), hasEnded)
  if (done.status !== 'completed')
    throw new HoldfastError('INTERNAL', `The bench's backup is ${done.status}: ${done.error_message}`)
  return { api, backupId }
}

/** The first round warms up and is not counted, as everywhere. */
async function benchMounting({ rounds, plan }: ApiBench, asking: Asking): Promise<Figure[]> {
  const listed: number[] = []
  const rates: number[] = []
  for (let round = 0; round <= rounds; round += 1) {
    const began = performance.now()
    const mountId = await mount(asking)
    await asking.api.call('GET', `/restore/${mountId}/files?path=/`, z.object({}))
    const seconds = secondsSince(began)
    const rate = await rateOf(asking, `/restore/${mountId}/download?path=/${plan.mixed}`)
    await release(asking, mountId)
    if (round === 0) continue
    listed.push(seconds)
    rates.push(rate)
  }
  console.error('  mounting and downloading through the API: measured')
  return [
    { what: 'mount to first listing, through the API', unit: 's', values: listed, limit: LIMITS.firstListingSeconds },
    { what: 'file, isolated reader, through the API', unit: 'MiB/s', values: rates, limit: LIMITS.fileMibPerSecond },
  ]
}

/** Of the processes themselves, while a folder is downloaded as a zip: more than before. */
async function benchMemory({ plan }: ApiBench, stack: Stack, asking: Asking): Promise<Figure[]> {
  const mountId = await mount(asking)
  const watched = stack.processes().filter(({ name }) => name === 'mover' || name === 'api')
  const before = await Promise.all(watched.map(({ pid }) => beginPeak(pid)))
  await rateOf(asking, `/restore/${mountId}/download-directory?path=/${plan.heap}&format=zip`)
  const after = await Promise.all(watched.map(({ pid }) => memoryOf(pid, 'VmHWM')))
  await release(asking, mountId)
  console.error('  memory of mover and API: measured')
  return watched.map(({ name }, index) => ({
    what: `folder as zip through the API: memory of the ${name} more than before`,
    unit: 'MiB',
    values: [(after[index]! - before[index]!) / MIB],
    limit: LIMITS.memoryMib,
  }))
}

async function mount({ api, backupId }: Asking): Promise<string> {
  return (await api.call('POST', '/restore/mount', mounted, { backup_id: backupId, disk_index: 0 })).mount_id
}

async function release({ api }: Asking, mountId: string): Promise<void> {
  await api.call('DELETE', `/restore/${mountId}`, z.object({}))
}

/** MiB/s of an answer that is read and not kept. */
async function rateOf({ api }: Asking, path: string): Promise<number> {
  const began = performance.now()
  const response = await api.open(path)
  let bytes = 0
  for await (const piece of response.body ?? []) bytes += piece.length
  return bytes / MIB / secondsSince(began)
}

/** Of a process, in bytes; its peak is counted from now on (proc(5)). */
async function beginPeak(pid: number): Promise<number> {
  await writeFile(`/proc/${pid}/clear_refs`, '5')
  return memoryOf(pid, 'VmRSS')
}

async function memoryOf(pid: number, what: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${what}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1_000
}
