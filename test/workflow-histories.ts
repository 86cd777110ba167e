/** Everything that Temporal keeps about workflows, as text to search in. */
import { Client, Connection } from '@temporalio/client'
import { TEST_NAMESPACE } from './temporal.ts'

/** One entry per workflow of the server's namespace `holdfast`: its whole history, payloads decoded. */
export async function workflowHistories(address: string): Promise<{ where: string; text: string }[]> {
  const connection = await Connection.connect({ address })
  try {
    return await historiesOf(new Client({ connection, namespace: TEST_NAMESPACE }))
  } finally {
    await connection.close()
  }
}

/** The same of the client's own namespace. */
export async function historiesOf(client: Client): Promise<{ where: string; text: string }[]> {
  const histories = []
  for await (const { workflowId, runId } of client.workflow.list()) {
    const history = await client.workflow.getHandle(workflowId, runId).fetchHistory()
    histories.push({ where: `the history of ${workflowId}`, text: textsIn(history).join('\n') })
  }
  return histories
}

/** Every string in a value, and every byte array read as text: payloads are bytes. */
function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  if (value instanceof Uint8Array) return [Buffer.from(value).toString('utf8')]
  if (value === null || typeof value !== 'object') return []
  return Object.values(value).flatMap(textsIn)
}
