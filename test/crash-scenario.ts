/**
 * The whole stack with a VM of two disks, to be killed piece by piece while that is backed up. Backups are slowed down, so that a random moment
 * falls into the transfer.
 */
import { createCipheriv, randomInt } from 'node:crypto'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ApiClient, hasEnded } from '../dev/demo/api-client.ts'
import type { BackupView } from '../dev/demo/api-client.ts'
import { freePort } from '../dev/ports.ts'
import { startStack } from '../dev/stack.ts'
import type { ServiceName, Stack } from '../dev/stack.ts'
import { runTool } from '../tools/run-tool.ts'
import { createTemporaryFolder } from './temporary-folder.ts'
import { shareCaches } from './shared-caches.ts'

const MIB = 1024 ** 2
export const DISK_BYTES = 64 * MIB
/** Makes each backup last about eight seconds: progress reaches the catalog up to two seconds late, and a random moment must still fall into the transfer. */
const RATE_BYTES_PER_SECOND = 8 * MIB
const started = z.object({ backup_id: z.string() })

export class CrashScenario {
  readonly admin: { username: string; password: string }
  stack: Stack
  api: ApiClient
  readonly #folder: Awaited<ReturnType<typeof createTemporaryFolder>>
  readonly #disks: string[] = []
  #repositoryId = ''

  private constructor(folder: Awaited<ReturnType<typeof createTemporaryFolder>>, stack: Stack) {
    this.#folder = folder
    this.stack = stack
    this.admin = stack.firstAdmin!
    this.api = apiOf(stack)
  }

  /** End it with {@link stop}. */
  static async start(): Promise<CrashScenario> {
    const folder = await createTemporaryFolder()
    let stack: Stack | undefined
    try {
      await shareCaches(join(folder.path, 'home'))
      stack = await startOn(folder.path)
      const scenario = new CrashScenario(folder, stack)
      await scenario.#prepare()
      return scenario
    } catch (error) {
      await stack?.stop()
      await folder.remove()
      throw error
    }
  }

  async stop(): Promise<void> {
    await this.stack.stop()
    await this.#folder.remove()
  }

  /** Again on the state that a stopped stack left. */
  async startAgain(): Promise<void> {
    this.stack = await startOn(this.#folder.path)
    this.api = apiOf(this.stack)
    await this.#signIn()
  }

  async startBackup(): Promise<string> {
    const request = {
      vm_name: 'crash-vm',
      repository_id: this.#repositoryId,
      backup_type: 'full',
      rate_limit_bytes_per_second: RATE_BYTES_PER_SECOND,
    }
    return (await this.api.call('POST', '/backups', started, request)).backup_id
  }

  /** Kills it at a random moment of the transfer, and waits until it is there again. */
  async killDuring(backupId: string, victim: ServiceName): Promise<void> {
    const killAtBytes = randomInt(Math.round(2 * DISK_BYTES * 0.15), Math.round(2 * DISK_BYTES * 0.5))
    const midway = await this.follow(backupId, (view) => view.processed_bytes >= killAtBytes || hasEnded(view))
    if (midway.status !== 'running') throw new Error(`backup ${backupId} is ${midway.status}: ${victim} was to be killed before`)
    await this.kill(victim)
  }

  /** Kills it now, and waits until it is there again. */
  async kill(victim: ServiceName): Promise<void> {
    const pid = this.stack.processes().find((process) => process.name === victim)!.pid
    process.kill(pid, 'SIGKILL')
    await this.stack.restarted(victim, pid)
  }

  /** Asks on while the API itself loses its database or Temporal: a moment without an answer is part of these tests. */
  async follow(backupId: string, done: (view: BackupView) => boolean): Promise<BackupView> {
    let last: unknown
    const deadline = Date.now() + 90_000
    while (Date.now() < deadline) {
      try {
        const view = await this.api.backup(backupId)
        last = view
        if (done(view)) return view
      } catch (error) {
        last = error
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    throw new Error(`Backup ${backupId} did not get there in time; last seen: ${JSON.stringify(last)} ${String(last)}`)
  }

  /** Reads every block back through Holdfast, and returns the backup with what came of it. */
  async verify(backupId: string): Promise<BackupView> {
    await this.api.call('POST', `/backups/${backupId}/verify`, z.object({}))
    return this.follow(backupId, (backup) => backup.verification_status !== 'unverified')
  }

  /** Compared by QEMU alone, straight from the repository's files. Throws when a disk differs. */
  async requireSameContent(backupId: string): Promise<void> {
    const vms = join(this.#folder.path, 'repository', 'vms')
    const [vmFolder] = await readdir(vms)
    for (const [index, disk] of this.#disks.entries()) {
      const image = join(vms, vmFolder!, backupId, `disk-${index}.qcow2`)
      await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', disk, image], { timeoutMs: 60_000 })
    }
  }

  async #signIn(): Promise<void> {
    await this.api.login(this.admin.username, this.admin.password)
  }

  async #prepare(): Promise<void> {
    await this.#signIn()
    for (const index of [0, 1]) this.#disks.push(await writeRandomDisk(join(this.#folder.path, `disk-${index}.raw`), index))
    const config = { path: join(this.#folder.path, 'repository') }
    const registered = z.object({ repository_id: z.string() })
    const repository = { name: 'crash', type: 'local', config }
    this.#repositoryId = (await this.api.call('POST', '/repositories', registered, repository)).repository_id
    const disks = this.#disks.map((path) => ({ path, format: 'raw' }))
    await this.api.call('POST', '/vm-contexts', z.object({}), { vm_name: 'crash-vm', source_type: 'disk-image', disks })
  }
}

/**
 * For each disk, whether it got there as promised. A mover's death interrupts its transfers, which go on at their journals. The others' deaths
 * they do not even notice, unless a server is away for longer than a mover may be silent: then they are given out again, and go on at their
 * journals too.
 */
export function resumedAsPromised({ disks }: BackupView, victim: ServiceName): boolean[] {
  const interrupted = disks.map((disk) => disk.attempt > 1 && disk.resumed_at_bytes > 0)
  const untouched = disks.map((disk) => disk.attempt === 1 && disk.resumed_at_bytes === 0)
  return victim === 'mover' ? interrupted : interrupted.map((was, disk) => was || untouched[disk]!)
}

function apiOf(stack: Stack): ApiClient {
  return new ApiClient(`${stack.apiUrl}/api/v1`)
}

async function startOn(folder: string): Promise<Stack> {
  return startStack({
    home: join(folder, 'home'),
    apiPort: await freePort(),
    temporalPort: await freePort(),
    uiPort: null,
    env: { HOLDFAST_CHECKPOINT_MS: '200', HOLDFAST_HEARTBEAT_TIMEOUT_MS: '3000' },
  })
}

async function writeRandomDisk(path: string, seed: number): Promise<string> {
  const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed + 1), Buffer.alloc(16))
  const file = await open(path, 'w')
  try {
    for (let offset = 0; offset < DISK_BYTES; offset += MIB) await file.write(stream.update(Buffer.alloc(MIB)), 0, MIB, offset)
  } finally {
    await file.close()
  }
  return path
}
