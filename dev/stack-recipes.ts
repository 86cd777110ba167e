/** How each service of the stack is started, where its output goes, and how long it may take to stop. */
import { join, resolve } from 'node:path'
import { LogFile } from './log-file.ts'
import { startMariaDb } from './mariadb.ts'
import { startNodeProcess } from './node-process.ts'
import type { StackPlan } from './stack-plan.ts'
import type { ServiceRecipe } from './supervised-service.ts'
import { startTemporalServer } from './temporal-server.ts'

export type ServiceName = 'mariadb' | 'temporal' | 'control' | 'mover' | 'api'

/** For people. */
export const serviceTitles: Record<ServiceName, string> = {
  mariadb: 'MariaDB',
  temporal: 'Temporal',
  control: 'control worker',
  mover: 'mover',
  api: 'API',
}

export interface StackRecipes {
  mariaDb(): ServiceRecipe<ServiceName>
  temporal(): ServiceRecipe<ServiceName>
  ownProcess(name: OwnProcessName): ServiceRecipe<ServiceName>
  closeLogs(): Promise<void>
}

type OwnProcessName = 'control' | 'mover' | 'api'

/** Milliseconds until a process that was told to end is killed. The sum stays below 30 s; transfers get the most, to reach a checkpoint. */
const stopGraceMs: Record<ServiceName, number> = { api: 3_000, mover: 12_000, control: 5_000, temporal: 4_000, mariadb: 5_000 }

const checkout = resolve(import.meta.dirname, '..')
/** Node keeps compiled sources here, so that processes and their disk threads start in half the time. It depends on the sources alone, not on any state. */
const compiledCode = join(checkout, '.tools', 'compiled')
const entryPoints: Record<OwnProcessName, string> = {
  control: join(checkout, 'worker/control.ts'),
  mover: join(checkout, 'worker/mover.ts'),
  api: join(checkout, 'api/main.ts'),
}

/** The log folder must exist. */
export function createRecipes(plan: StackPlan, onProgress: (text: string) => void): StackRecipes {
  const { folders } = plan
  const logs = new Map<ServiceName, LogFile>()
  const logPath = (name: ServiceName): string => join(folders.logs, `${name}.log`)
  const keepOutput = (name: ServiceName): ((text: string) => void) => {
    const log = logs.get(name) ?? new LogFile(logPath(name))
    logs.set(name, log)
    return (text) => {
      log.write(text)
      plan.onOutput?.(name, text)
    }
  }
  const recipe = (name: ServiceName, start: ServiceRecipe<ServiceName>['start']): ServiceRecipe<ServiceName> => ({
    name,
    start,
    stopGraceMs: stopGraceMs[name],
  })
  return {
    mariaDb: () =>
      recipe('mariadb', (signal) =>
        startMariaDb({
          dataFolder: folders.database,
          socketPath: join(folders.run, 'mariadb.sock'),
          signal,
          onProgress,
          onOutput: keepOutput('mariadb'),
        }),
      ),
    temporal: () =>
      recipe('temporal', (signal) =>
        startTemporalServer({
          folder: folders.temporal,
          port: plan.temporalPort,
          uiPort: plan.uiPort,
          namespace: plan.temporalNamespace,
          signal,
          onProgress,
          onOutput: keepOutput('temporal'),
        }),
      ),
    ownProcess: (name) =>
      recipe(name, (signal) =>
        startNodeProcess({
          name: serviceTitles[name],
          script: entryPoints[name],
          env: { NODE_COMPILE_CACHE: compiledCode, ...plan.env },
          signal,
          onOutput: keepOutput(name),
          logPath: logPath(name),
        }),
      ),
    async closeLogs() {
      for (const log of logs.values()) log.close()
    },
  }
}
