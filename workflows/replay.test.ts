/**
 * Replays what real runs recorded against the workflow code as it is now. A failure means that workflows which are running while this
 * code is deployed could not go on: guard the change with `patched()`, or, before the first release, record anew
 * (`HOLDFAST_RECORD_HISTORIES=1 npx vitest run --project integration worker/histories`).
 */
import { Worker } from '@temporalio/worker'
import { beforeAll, describe, expect, test } from 'vitest'
import { recordedHistories } from '../test/recorded-histories.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { workflowBundle } from '../worker/bundle.ts'
import * as workflows from './index.ts'

const recorded = await recordedHistories()

describe('recorded histories', () => {
  let codePath: string

  beforeAll(async () => {
    const folder = await createTemporaryFolder()
    codePath = await workflowBundle(folder.path)
    return () => folder.remove()
  }, 60_000)

  test('there is at least one of every workflow', () => {
    const types = new Set(recorded.map(({ history }) => startedType(history)))
    expect([...types].toSorted()).toEqual(Object.keys(workflows).toSorted())
  })

  test('all replay', async () => {
    const results: string[] = []
    // In the order given: several runs share a workflow's id, which children's ids begin with.
    for await (const { error } of Worker.runReplayHistories({ workflowBundle: { codePath } }, recorded)) {
      results.push(error?.message ?? 'replayed')
    }
    const named = Object.fromEntries(recorded.map(({ name }, index) => [name, results[index]]))
    expect(named).toEqual(Object.fromEntries(recorded.map(({ name }) => [name, 'replayed'])))
  }, 60_000)

  test('a changed workflow would be noticed', async () => {
    const { history, workflowId } = structuredClone(recorded.find(({ name }) => name === 'verify-passed')!)
    const events = (history as { events: Record<string, { activityType?: { name: string } }>[] }).events
    for (const event of events) {
      const scheduled = event['activityTaskScheduledEventAttributes']
      if (scheduled?.activityType?.name === 'pinBackup') scheduled.activityType.name = 'pinSomethingElse'
    }
    const replay = Worker.runReplayHistory({ workflowBundle: { codePath } }, history, workflowId)
    await expect(replay).rejects.toThrow(/determin/i)
  }, 60_000)

  test('hold no password', () => {
    for (const { name, history } of recorded) {
      const text = JSON.stringify(history, (key, value: unknown) =>
        key === 'data' && typeof value === 'string' ? Buffer.from(value, 'base64').toString() : value,
      )
      expect(text, name).not.toMatch(/password|secret|token|mysql:/i)
    }
  })
})

function startedType(history: unknown): string {
  const [first] = (history as { events: { workflowExecutionStartedEventAttributes: { workflowType: { name: string } } }[] })
    .events
  return first!.workflowExecutionStartedEventAttributes.workflowType.name
}
