/** The way to a Temporal server for processes that ask and start; workers bring their own native connection. */
import { Client, Connection } from '@temporalio/client'
import type { Environment } from '../runtime/environment.ts'

/** Longest wait for the TCP connection; a request that finds no server fails after its own deadline. */
const CONNECT_TIMEOUT_MS = 4_000

/**
 * A client for the environment's namespace. The connection is made with the first request, so a process starts while
 * Temporal is away. The caller closes it: `client.connection.close()`.
 */
export function connectTemporal(environment: Pick<Environment, 'temporalAddress' | 'temporalNamespace'>): Client {
  const connection = Connection.lazy({ address: environment.temporalAddress, connectTimeout: CONNECT_TIMEOUT_MS })
  return new Client({ connection, namespace: environment.temporalNamespace })
}
