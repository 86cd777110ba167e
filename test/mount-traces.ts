/** The programs of restore mounts, and what mounts could leave behind on this host. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Catalog } from '../db/client.ts'
import { runTool } from '../tools/run-tool.ts'
import { processesNaming } from './disk-backups.ts'
import { descendantsOf } from './process-tree.ts'
import type { SeenProcess } from './process-tree.ts'

const programs = { exporter: /^qemu-storage-da/, reader: /^linux/ } as const
export type MountProgram = keyof typeof programs

/** Everything that runs for this mount below the mover, outermost first. */
export async function programsOfMount(moverPid: number, mountId: string): Promise<SeenProcess[]> {
  const below = await descendantsOf(moverPid)
  const named = below.filter((process) => process.commandLine.includes(mountId))
  const inside = await Promise.all(named.map((process) => descendantsOf(process.pid)))
  return [...new Map([...named, ...inside.flat()].map((process) => [process.pid, process])).values()]
}

/** The one to kill. Throws when it does not run. */
export async function programOfMount(program: MountProgram, moverPid: number, mountId: string): Promise<SeenProcess> {
  const running = await programsOfMount(moverPid, mountId)
  const found = running.find((process) => programs[program].test(process.name))
  if (found) return found
  throw new Error(`mount ${mountId} has no ${program}; it has: ${running.map((process) => process.name).join(', ')}`)
}

/** Processes and mounts of a home's restore mounts, as the host sees them. Empty when nothing is mounted. */
export async function tracesOnHost(home: string): Promise<string[]> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').filter((line) => line.includes(home))
  const processes = await processesNaming(home)
  return [...mounts, ...processes.map((pid) => `process ${pid}`)]
}

/** Empty folders, one for each mount. Those of a mover that was killed are removed by the next. */
export async function runFoldersOfMounts(home: string): Promise<string[]> {
  const run = join(home, 'run')
  const movers = (await readdir(run).catch(() => [])).filter((name) => name.startsWith('mover-'))
  const files = await Promise.all(movers.map(async (name) => (await readdir(join(run, name))).map((file) => join(name, file))))
  return files.flat()
}

/** Loop devices whose file lies on one of these devices: `deviceOf` of what a mount shows as its disk. */
export async function loopsOn(devices: ReadonlySet<string>): Promise<string[]> {
  const { stdout } = await runTool('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-MAJ:MIN'], { timeoutMs: 10_000 })
  const lines = stdout.trim().split('\n')
  return lines.map((line) => line.trim().split(/\s+/)).flatMap(([name = '', device = '']) => (devices.has(device) ? [name] : []))
}

/** The device on which a file lies, as `losetup` names it. */
export async function deviceOf(path: string): Promise<string> {
  const { dev } = await stat(path)
  return `${dev >> 8}:${dev & 0xff}`
}

/** What the catalog knows of mounts. */
export async function mountRows(catalog: Catalog): Promise<string[]> {
  const mounts = await catalog.selectFrom('restore_mounts').select(['id', 'status']).execute()
  const pins = await catalog.selectFrom('backup_pins').select('owner_workflow_id').execute()
  return [...mounts.map((row) => `mount ${row.id}: ${row.status}`), ...pins.map((pin) => `pin of ${pin.owner_workflow_id}`)]
}
