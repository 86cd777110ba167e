/** The Temporal server of the test run. */
import { Client, Connection } from '@temporalio/client'
import { inject } from 'vitest'

/** What every test uses; it has all search attributes. */
export const TEST_NAMESPACE = 'holdfast'

/** A client of the run's server. Tests share it: use workflow ids and task queues of your own. Close it in `afterAll`. */
export async function connectTestTemporal(): Promise<{ client: Client; address: string; close(): Promise<void> }> {
  const address = inject('temporalAddress')
  const connection = await Connection.connect({ address })
  return { client: new Client({ connection, namespace: TEST_NAMESPACE }), address, close: () => connection.close() }
}
