/** What a stack will be, worked out before anything is started. */
import { resolve } from 'node:path'
import { embeddedDatabaseUrl, homeFolders } from '../runtime/environment.ts'
import type { HomeFolders } from '../runtime/environment.ts'
import type { PortNeed } from './ports.ts'
import type { ServiceName, StackOptions } from './stack.ts'

export interface StackPlan {
  /** Absolute. */
  home: string
  folders: HomeFolders
  ownMariaDb: boolean
  ownTemporal: boolean
  temporalNamespace: string
  temporalPort: number
  uiPort: number | null
  addresses: { apiUrl: string; uiUrl: string | null; databaseUrl: string; temporalAddress: string }
  /** Must be free. */
  ports: PortNeed[]
  /** For Holdfast's own processes, on top of ours. */
  env: Record<string, string>
  onOutput: ((service: ServiceName, text: string) => void) | undefined
  signal: AbortSignal
}

const LOOPBACK = '127.0.0.1'

export function planStack(options: StackOptions): StackPlan {
  const home = resolve(options.home)
  const apiHost = options.apiHost ?? LOOPBACK
  const ownTemporal = options.temporalAddress === undefined
  const uiPort = ownTemporal ? options.uiPort : null
  const temporalNamespace = options.temporalNamespace ?? 'holdfast'
  const databaseUrl = options.databaseUrl ?? embeddedDatabaseUrl(home)
  const temporalAddress = options.temporalAddress ?? `${LOOPBACK}:${options.temporalPort}`
  return {
    home,
    folders: homeFolders(home),
    ownMariaDb: options.databaseUrl === undefined,
    ownTemporal,
    temporalNamespace,
    temporalPort: options.temporalPort,
    uiPort,
    addresses: {
      apiUrl: `http://${apiHost.includes(':') ? `[${apiHost}]` : apiHost}:${options.apiPort}`,
      uiUrl: uiPort === null ? null : `http://${LOOPBACK}:${uiPort}`,
      databaseUrl,
      temporalAddress,
    },
    ports: neededPorts(options, apiHost, uiPort),
    env: {
      HOLDFAST_HOME: home,
      DATABASE_URL: databaseUrl,
      TEMPORAL_ADDRESS: temporalAddress,
      TEMPORAL_NAMESPACE: temporalNamespace,
      HOLDFAST_API_HOST: apiHost,
      HOLDFAST_API_PORT: String(options.apiPort),
      ...options.env,
    },
    onOutput: options.onOutput,
    signal: options.signal ?? new AbortController().signal,
  }
}

function neededPorts(options: StackOptions, apiHost: string, uiPort: number | null): PortNeed[] {
  const ports: PortNeed[] = [{ host: apiHost, port: options.apiPort, purpose: 'the API', variable: 'HOLDFAST_API_PORT' }]
  if (options.temporalAddress === undefined) {
    ports.push({ host: LOOPBACK, port: options.temporalPort, purpose: 'Temporal', variable: 'HOLDFAST_TEMPORAL_PORT' })
  }
  if (uiPort !== null) {
    ports.push({ host: LOOPBACK, port: uiPort, purpose: "Temporal's Web UI", variable: 'HOLDFAST_TEMPORAL_UI_PORT' })
  }
  return ports
}
