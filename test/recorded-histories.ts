/** Histories of real runs as files, for the replay test in `workflows/`. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Client } from '@temporalio/client'
import type { JsonObject } from '../domain/errors.ts'
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js'

const folder = fileURLToPath(new URL('../workflows/histories/', import.meta.url))
const root = fileURLToPath(new URL('..', import.meta.url))

/** Set to record: `HOLDFAST_RECORD_HISTORIES=1 npx vitest run --project integration worker/histories`. */
export const isRecording = process.env['HOLDFAST_RECORD_HISTORIES'] === '1'

export interface WorkflowRun {
  workflowId: string
  runId?: string
}

export interface RecordedHistory {
  name: string
  workflowId: string
  /** As JSON, the way the SDK's replay takes it. */
  history: JsonObject
}

/** Number of events of a run. */
export async function eventCount(client: Client, { workflowId, runId }: WorkflowRun): Promise<number> {
  const { events } = await client.workflow.getHandle(workflowId, runId).fetchHistory()
  return events?.length ?? 0
}

/**
 * Writes the run's history to `workflows/histories/<name>.json`, without what names the machine it ran on. Does nothing unless
 * recording was asked for: otherwise the recorded ones are what released code did, and must stay.
 */
export async function recordHistory(client: Client, name: string, { workflowId, runId }: WorkflowRun): Promise<void> {
  if (!isRecording) return
  const history: unknown = JSON.parse(historyToJSON(await client.workflow.getHandle(workflowId, runId).fetchHistory()))
  const text = JSON.stringify({ workflowId, history: withoutMachine(history) }, null, 1)
  await writeFile(`${folder}${name}.json`, `${text.replaceAll(root, '/holdfast/')}\n`)
}

export async function recordedHistories(): Promise<RecordedHistory[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json')).toSorted()
  return Promise.all(
    names.map(async (name) => ({ name: name.replace(/\.json$/, ''), ...JSON.parse(await readFile(folder + name, 'utf8')) })),
  )
}

function withoutMachine(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutMachine)
  if (typeof value !== 'object' || value === null) return value
  const members = Object.entries(value).map(([key, member]) => [key, key === 'identity' ? 'worker' : withoutMachine(member)])
  return Object.fromEntries(members)
}
