/**
 * The promise of Holdfast, on the whole stack: kill -9 any process at a random moment of a two-disk backup, and the backup completes,
 * verifies, and the transfer did not start again from zero. And what a run leaves behind holds no password.
 */
import { createCipheriv, randomInt } from 'node:crypto'
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ApiClient, hasEnded } from '../dev/demo/api-client.ts'
import type { BackupView } from '../dev/demo/api-client.ts'
import { freePort } from '../dev/ports.ts'
import { startStack } from '../dev/stack.ts'
import type { ServiceName, Stack } from '../dev/stack.ts'
import { runTool } from '../tools/run-tool.ts'
import { requireTool } from './requires.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

import { workflowHistories } from './workflow-histories.ts'

const MIB = 1024 ** 2
const DISK_BYTES = 192 * MIB
/** Makes each backup last about eight seconds: progress reaches the catalog up to two seconds late, and a random moment must still fall into the transfer. */
const RATE_BYTES_PER_SECOND = 24 * MIB
const started = z.object({ backup_id: z.string() })

requireTool('qemu-nbd')

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let stack: Stack
let admin: { username: string; password: string }
let api: ApiClient
let repositoryId: string
const disks: string[] = []

beforeAll(async () => {
  folder = await createTemporaryFolder()
  stack = await startOnThisState()
  admin = stack.firstAdmin!
  api = await signIn()
  for (const index of [0, 1]) disks.push(await writeRandomDisk(join(folder.path, `disk-${index}.raw`), index))
  const config = { path: join(folder.path, 'repository') }
  const registered = z.object({ repository_id: z.string() })
  repositoryId = (await api.call('POST', '/repositories', registered, { name: 'crash', type: 'local', config })).repository_id
  const vm = { vm_name: 'crash-vm', source_type: 'disk-image', disks: disks.map((path) => ({ path, format: 'raw' })) }
  await api.call('POST', '/vm-contexts', z.object({}), vm)
})

afterAll(async () => {
  await stack?.stop()
  await folder?.remove()
})

describe('kill -9 at a random moment of a two-disk backup', () => {
  test.each<ServiceName>(['mover', 'control', 'temporal', 'mariadb'])(
    'of %s: the backup completes, from where it was',
    async (victim) => {
      const backupId = (await api.call('POST', '/backups', started, backupRequest('full'))).backup_id
      const killAtBytes = randomInt(Math.round(2 * DISK_BYTES * 0.15), Math.round(2 * DISK_BYTES * 0.5))
      const midway = await follow(backupId, (view) => view.processed_bytes >= killAtBytes || hasEnded(view))
      expect(midway.status, `the backup was to be running when ${victim} is killed at ${killAtBytes} bytes`).toBe('running')

      const pid = stack.processes().find((process) => process.name === victim)!.pid
      process.kill(pid, 'SIGKILL')
      await stack.restarted(victim, pid)
      const done = await follow(backupId, hasEnded)

      expect(done).toMatchObject({ status: 'completed', error_code: null })
      // A mover's death interrupts its transfers, which go on at their journals. The others' deaths they do not even notice, unless a server
      // is away for longer than a mover may be silent: then they are given out again, and go on at their journals too.
      const interrupted = done.disks.map((disk) => disk.attempt > 1 && disk.resumed_at_bytes > 0)
      const untouched = done.disks.map((disk) => disk.attempt === 1 && disk.resumed_at_bytes === 0)
      const asPromised = victim === 'mover' ? interrupted : interrupted.map((was, disk) => was || untouched[disk])
      expect(asPromised, JSON.stringify(done.disks)).toEqual([true, true])
      await expectVerified(backupId)
      await expectSameContent(backupId)
    },
  )
})

test('stopped in the middle of a backup and started again, the backup goes on at its last checkpoint', async () => {
  const backupId = (await api.call('POST', '/backups', started, backupRequest('full'))).backup_id
  await follow(backupId, (view) => view.processed_bytes >= DISK_BYTES * 0.6)
  const stoppingAt = Date.now()
  await stack.stop()
  expect(Date.now() - stoppingAt).toBeLessThan(30_000)

  stack = await startOnThisState()
  api = await signIn()
  const done = await follow(backupId, hasEnded)
  expect(done).toMatchObject({ status: 'completed', error_code: null })
  expect(done.disks.map((disk) => disk.resumed_at_bytes > 0)).toEqual([true, true])
  await expectSameContent(backupId)
})

test('histories, logs and process list hold no password and no token', async () => {
  const { token } = await api.call('POST', '/auth/login', z.object({ token: z.string() }), admin)
  const secrets = [admin.password, token]
  const places = [...(await logTexts()), ...(await processTexts()), ...(await workflowHistories(stack.temporalAddress))]
  expect(places.length, 'something was looked at').toBeGreaterThan(10)
  for (const { where, text } of places) {
    for (const secret of secrets) expect(text.includes(secret), `a secret stands in ${where}`).toBe(false)
  }
})

async function startOnThisState(): Promise<Stack> {
  return startStack({
    home: join(folder.path, 'home'),
    apiPort: await freePort(),
    temporalPort: await freePort(),
    uiPort: null,
    env: { HOLDFAST_CHECKPOINT_MS: '200', HOLDFAST_HEARTBEAT_TIMEOUT_MS: '3000' },
  })
}

async function signIn(): Promise<ApiClient> {
  const client = new ApiClient(`${stack.apiUrl}/api/v1`)
  await client.login(admin.username, admin.password)
  return client
}

function backupRequest(type: string): object {
  return {
    vm_name: 'crash-vm',
    repository_id: repositoryId,
    backup_type: type,
    rate_limit_bytes_per_second: RATE_BYTES_PER_SECOND,
  }
}

/** Asks on while the API itself loses its database or Temporal: a moment without an answer is part of this test. */
async function follow(backupId: string, done: (view: BackupView) => boolean): Promise<BackupView> {
  let last: unknown
  const deadline = Date.now() + 90_000
  while (Date.now() < deadline) {
    try {
      const view = await api.backup(backupId)
      last = view
      if (done(view)) return view
    } catch (error) {
      last = error
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`Backup ${backupId} did not get there in time; last seen: ${JSON.stringify(last)} ${String(last)}`)
}

async function expectVerified(backupId: string): Promise<void> {
  await api.call('POST', `/backups/${backupId}/verify`, z.object({}))
  const view = await follow(backupId, (backup) => backup.verification_status !== 'unverified')
  expect(view.verification_message ?? '').not.toMatch(/damage/i)
  expect(view.verification_status).toBe('passed')
}

/** Compared by QEMU alone, straight from the repository's files. */
async function expectSameContent(backupId: string): Promise<void> {
  const vmFolders = await readdir(join(folder.path, 'repository', 'vms'))
  for (const [index, disk] of disks.entries()) {
    const image = join(folder.path, 'repository', 'vms', vmFolders[0]!, backupId, `disk-${index}.qcow2`)
    await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', disk, image], { timeoutMs: 60_000 })
  }
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

async function logTexts(): Promise<{ where: string; text: string }[]> {
  const names = await readdir(stack.folders.logs)
  return Promise.all(
    names.map(async (name) => ({ where: `log ${name}`, text: await readFile(join(stack.folders.logs, name), 'utf8') })),
  )
}

async function processTexts(): Promise<{ where: string; text: string }[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  return Promise.all(
    pids.map(async (pid) => {
      // A process may end between the listing and the look.
      const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      return { where: `the command line of process ${pid}`, text }
    }),
  )
}
