/**
 * Holdfast's own control worker and mover as real processes, on the servers of the test run. Each has a namespace and a database of
 * its own, so that test files do not take each other's work.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { inject } from 'vitest'
import type { Client } from '@temporalio/client'
import { startNodeProcess } from '../dev/node-process.ts'
import type { ReadyProcess } from '../dev/supervised-service.ts'
import { createOperations } from '../temporal/client-operations.ts'
import { connectTemporal } from '../temporal/connection.ts'
import type { Operations } from '../temporal/operations.ts'
import { ensureNamespace } from '../temporal/search-attributes.ts'
import { createTestCatalog } from './catalog.ts'
import type { TestCatalog } from './catalog.ts'
import { createTemporaryFolder } from './temporary-folder.ts'
import { shareCaches } from './shared-caches.ts'

/** A mover that is silent for so long is taken for dead, in these tests. */
export const HEARTBEAT_TIMEOUT_MS = 3_000
/** A parked backup's repository is looked at so often, in these tests. */
const PARKING_LOOKS = { firstMs: 300, mostMs: 600 }

type ProcessName = 'control' | 'mover'

export interface HoldfastProcesses {
  catalog: TestCatalog['catalog']
  client: Client
  operations: Operations
  /** All state but the catalog; also for the test's own files. */
  home: string
  /** What both processes printed so far. */
  output(): string
  /** Starts the process, which must not be running. */
  start(name: ProcessName): Promise<void>
  /** SIGKILL; resolves when it is gone. */
  kill(name: ProcessName): Promise<void>
  /** SIGTERM; resolves with the milliseconds it took to end. */
  stop(name: ProcessName): Promise<number>
  pid(name: ProcessName): number
  /** Ends everything and removes every trace. */
  close(): Promise<void>
}

/** Neither process runs yet unless named in `running`. `environment` is added to theirs; `scripts` run in place of Holdfast's own. */
export async function createHoldfastProcesses(
  running: ProcessName[] = ['control', 'mover'],
  environment: Record<string, string> = {},
  scripts: Partial<Record<ProcessName, URL>> = {},
): Promise<HoldfastProcesses> {
  const folder = await createTemporaryFolder()
  await shareCaches(folder.path)
  const database = await createTestCatalog()
  const temporalAddress = inject('temporalAddress')
  const temporalNamespace = `test-${randomBytes(6).toString('hex')}`
  const client = connectTemporal({ temporalAddress, temporalNamespace })
  await ensureNamespace(client.connection, temporalNamespace)
  const processes = new Map<ProcessName, ReadyProcess>()
  let output = ''
  const of = (name: ProcessName): ReadyProcess => {
    const process = processes.get(name)
    if (!process) throw new Error(`The ${name} of this test is not running.`)
    return process
  }
  const end = async (name: ProcessName, graceMs: number): Promise<number> => {
    const began = performance.now()
    await of(name).stop(graceMs)
    processes.delete(name)
    return performance.now() - began
  }
  const stack: HoldfastProcesses = {
    catalog: database.catalog,
    client,
    operations: createOperations(client, { heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS, parkingLooks: PARKING_LOOKS }),
    home: folder.path,
    output: () => output,
    pid: (name) => of(name).pid,
    async start(name) {
      const ready = await startNodeProcess({
        name,
        script: (scripts[name] ?? new URL(`../worker/${name}.ts`, import.meta.url)).pathname,
        env: {
          HOLDFAST_HOME: folder.path,
          DATABASE_URL: database.databaseUrl,
          TEMPORAL_ADDRESS: temporalAddress,
          TEMPORAL_NAMESPACE: temporalNamespace,
          HOLDFAST_CHECKPOINT_MS: '200',
          HOLDFAST_HEARTBEAT_TIMEOUT_MS: String(HEARTBEAT_TIMEOUT_MS),
          ...environment,
        },
        signal: new AbortController().signal,
        onOutput: (text) => (output += text),
        logPath: join(folder.path, `${name}.log`),
      })
      processes.set(name, ready)
    },
    async kill(name) {
      process.kill(of(name).pid, 'SIGKILL')
      await of(name).exited
      processes.delete(name)
    },
    stop: (name) => end(name, 30_000),
    async close() {
      await Promise.all([...processes.keys()].map((name) => end(name, 20_000)))
      await client.connection.close()
      await database.drop()
      await folder.remove()
    },
  }
  try {
    for (const name of running) await stack.start(name)
  } catch (error) {
    await stack.close()
    throw error
  }
  return stack
}
