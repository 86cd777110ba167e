/** Who may do the same at the same time: as Temporal decides it, with nobody there to do the work. */
import { describe, expect, test } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { connectTestTemporal } from '../test/temporal.ts'
import { createOperations } from './client-operations.ts'
import { changeSourceWorkflowId, discoverVmsWorkflowId } from './workflow-ids.ts'

describe('without a worker', () => {
  const change = {
    sourceId: 'source-unattended',
    name: 'kvm',
    sourceType: 'libvirt',
    hostId: 'nowhere',
    config: { uri: 'qemu:///system' },
    credentialsId: null,
    maxConcurrentBackups: 1,
  } as const
  const source = { sourceId: 'source-unattended', hostId: 'nowhere' }

  test('one change of a source excludes another; looks at it are joined', async () => {
    const temporal = await connectTestTemporal()
    const operations = createOperations(temporal.client, { answerDeadlineMs: 1_000 })
    const [changeId, discoveryId] = [changeSourceWorkflowId(source.sourceId), discoverVmsWorkflowId(source.sourceId)]
    try {
      expect((await failureOf(operations.changeSource(change))).code).toBe('MOVER_UNAVAILABLE')
      expect((await failureOf(operations.changeSource(change))).code).toBe('SOURCE_BUSY')
      const looks = await Promise.all([failureOf(operations.discoverVms(source)), failureOf(operations.discoverVms(source))])
      expect(looks.map((look) => [look.code, look.details])).toEqual(
        Array.from({ length: 2 }, () => ['MOVER_UNAVAILABLE', { workflow_id: discoveryId }]),
      )
    } finally {
      // Whatever was started; what was not needs no end.
      for (const id of [changeId, discoveryId])
        await temporal.client.workflow
          .getHandle(id)
          .terminate()
          .catch(() => undefined)
      await temporal.close()
    }
  })
})
