/**
 * All of Holdfast on one machine: MariaDB, Temporal, the control worker, the mover and the API, started in this order, kept running,
 * and stopped in the reverse order. `npm start`, the demo and the fault tests use it. Nothing outlives the process that called it.
 */
import { rm } from 'node:fs/promises'
import type { HomeFolders } from '../runtime/environment.ts'
import { OpenedThings } from './opened-things.ts'
import { requireFreePort } from './ports.ts'
import { prepareCatalog, prepareOrchestrator } from './prepare-servers.ts'
import type { FirstAdmin } from './prepare-servers.ts'
import { RestartWatch } from './restart-watch.ts'
import { planStack } from './stack-plan.ts'
import type { StackPlan } from './stack-plan.ts'
import { createRecipes } from './stack-recipes.ts'
import type { ServiceName } from './stack-recipes.ts'
import { prepareStateFolders } from './state-folders.ts'
import { lockState } from './state-lock.ts'
import { superviseService } from './supervised-service.ts'
import type { ServiceEvent, ServiceRecipe, SupervisedService } from './supervised-service.ts'

export type { ServiceName }

export type StackEvent = ServiceEvent<ServiceName> | { kind: 'progress'; text: string } | ({ kind: 'first-admin' } & FirstAdmin)

export interface StackOptions {
  /** All state; created when missing. */
  home: string
  /** Given: this server is used and no MariaDB is started. May hold a password. */
  databaseUrl?: string | undefined
  /** Given: this server is used and no Temporal is started. */
  temporalAddress?: string | undefined
  temporalNamespace?: string | undefined
  apiHost?: string | undefined
  apiPort: number
  temporalPort: number
  /** `null`: no Temporal Web UI. */
  uiPort: number | null
  /** Added to the environment of Holdfast's own processes. */
  env?: Record<string, string> | undefined
  onEvent?: ((event: StackEvent) => void) | undefined
  /** What the processes print, besides the log files. */
  onOutput?: ((service: ServiceName, text: string) => void) | undefined
  /** Gives up starting; a stack that has started is ended by `stop`. */
  signal?: AbortSignal | undefined
}

export interface Stack {
  readonly apiUrl: string
  /** Temporal's Web UI, if it is ours. */
  readonly uiUrl: string | null
  readonly databaseUrl: string
  readonly temporalAddress: string
  readonly folders: HomeFolders
  /** The first user with the generated password, only when this start created it. */
  readonly firstAdmin: FirstAdmin | null
  /** What runs now; a service between its end and its restart is missing. */
  processes(): { name: ServiceName; pid: number }[]
  /** Resolves with the new pid once the service runs again with another pid than `previousPid`. Rejects when the stack is stopped. */
  restarted(name: ServiceName, previousPid: number): Promise<number>
  /** In reverse order, within 30 s; what does not end in its time is killed. Idempotent. */
  stop(): Promise<void>
}

/**
 * Starts everything and resolves when the API answers. On failure whatever had started is stopped again.
 * `INVALID_REQUEST`: the state or a port is in use. `TOOL_MISSING`, `TOOL_FAILED`, `TOOL_TIMEOUT`: a process did not get ready, with its
 * last words. `CATALOG_UNAVAILABLE`, `ORCHESTRATOR_UNAVAILABLE`: an external server does not answer.
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const plan = planStack(options)
  const opened = new OpenedThings()
  const restarts = new RestartWatch()
  const services: SupervisedService<ServiceName>[] = []
  const report = (event: StackEvent): void => {
    if (event.kind === 'restarted') restarts.note(event)
    options.onEvent?.(event)
  }
  const launch = async (recipe: ServiceRecipe<ServiceName>): Promise<void> => {
    const service = await superviseService(recipe, report, plan.signal)
    services.push(service)
    opened.add(() => service.stop())
  }
  try {
    const firstAdmin = await startInOrder(plan, { opened, launch, report })
    return {
      ...plan.addresses,
      folders: plan.folders,
      firstAdmin,
      processes: () => services.flatMap(({ name, pid }) => (pid === null ? [] : [{ name, pid }])),
      restarted: (name, previousPid) =>
        restarts.after(name, previousPid, services.find((service) => service.name === name)?.pid ?? null),
      stop: () => {
        restarts.end()
        return opened.close()
      },
    }
  } catch (error) {
    await opened.close()
    throw error
  }
}

interface Surroundings {
  opened: OpenedThings
  launch: (recipe: ServiceRecipe<ServiceName>) => Promise<void>
  report: (event: StackEvent) => void
}

async function startInOrder(plan: StackPlan, { opened, launch, report }: Surroundings): Promise<FirstAdmin | null> {
  const lock = await lockState(plan.home, { pid: process.pid, url: plan.addresses.apiUrl })
  opened.add(() => lock.release())
  for (const port of plan.ports) await requireFreePort(port)
  await prepareStateFolders(plan.home)
  opened.add(() => rm(plan.folders.run, { recursive: true, force: true }))
  const recipes = createRecipes(plan, (text) => report({ kind: 'progress', text }))
  opened.add(() => recipes.closeLogs())

  if (plan.ownMariaDb) await launch(recipes.mariaDb())
  if (plan.ownTemporal) await launch(recipes.temporal())
  else await prepareOrchestrator(plan.addresses.temporalAddress, plan.temporalNamespace)
  const firstAdmin = await prepareCatalog(plan.addresses.databaseUrl)
  // Told at once: should a later step fail, nobody could ever learn this password.
  if (firstAdmin) report({ kind: 'first-admin', ...firstAdmin })
  for (const name of ['control', 'mover', 'api'] as const) await launch(recipes.ownProcess(name))
  return firstAdmin
}
