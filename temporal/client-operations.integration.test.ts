/** What the API is told when Temporal is away. */
import { describe, expect, test } from 'vitest'
import { freePort } from '../dev/ports.ts'
import { failureOf } from '../test/failure.ts'
import { createOperations } from './client-operations.ts'
import { connectTemporal } from './connection.ts'

describe('without a Temporal server', () => {
  test('every verb says so within seconds, and health is false', async () => {
    const client = connectTemporal({ temporalAddress: `127.0.0.1:${await freePort()}`, temporalNamespace: 'holdfast' })
    const operations = createOperations(client)
    try {
      const began = performance.now()
      const failures = await Promise.all([
        failureOf(operations.cancelBackup('ctx-x', 'backup-x')),
        failureOf(operations.verifyBackup('backup-x', 'repo-x')),
        failureOf(operations.deleteBackup('ctx-x', 'backup-x')),
      ])
      expect(failures.map((failure) => failure.code)).toEqual(Array.from({ length: 3 }, () => 'ORCHESTRATOR_UNAVAILABLE'))
      expect(performance.now() - began).toBeLessThan(10_000)
      expect(await operations.healthy()).toBe(false)
      expect(failures[0].message).toContain('TEMPORAL_ADDRESS')
    } finally {
      await client.connection.close()
    }
  })
})
