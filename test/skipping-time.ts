/**
 * A Temporal server whose clock jumps: hours of a workflow pass in milliseconds. The clock jumps only while no step runs, so tests give steps that
 * end at once, and leave queues alone whose steps would last.
 */
import { accessSync, constants } from 'node:fs'
import { resolve } from 'node:path'
import { TestWorkflowEnvironment } from '@temporalio/testing'
import { beforeEach } from 'vitest'
import { searchAttributeKeys } from '../temporal/search-attributes.ts'

const KEYWORD = 2

/** Where `dev/bootstrap.sh` puts it; `TEMPORAL_TEST_SERVER_PATH` names another one. */
const program =
  process.env['TEMPORAL_TEST_SERVER_PATH'] ?? resolve(import.meta.dirname, '../.tools/temporal/bin/temporal-test-server')

/** For a test file, before its tests. In CI a missing server fails them at once; elsewhere they are skipped, with the reason. */
export function requireTimeSkipping(): void {
  try {
    accessSync(program, constants.X_OK)
  } catch {
    const reason = `needs "${program}", which is not there ("npm run bootstrap -- --tests" installs it)`
    if (process.env['CI']) throw new Error(reason)
    beforeEach(({ skip }) => skip(reason))
  }
}

/** Knows our search attributes. Close it with `teardown`. Its clock is shared by all workflows on it: one test at a time. */
export async function createSkippingTime(): Promise<TestWorkflowEnvironment> {
  const environment = await TestWorkflowEnvironment.createTimeSkipping({
    server: { executable: { type: 'existing-path', path: program } },
  })
  const searchAttributes = Object.fromEntries(searchAttributeKeys.map((key) => [key.name, KEYWORD]))
  const { connection } = environment
  await connection.operatorService.addSearchAttributes({ namespace: environment.client.options.namespace, searchAttributes })
  return environment
}
