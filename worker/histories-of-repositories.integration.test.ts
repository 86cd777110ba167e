/** Histories of the workflows around repositories, recorded from real runs; see `histories.integration.test.ts`. */
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { requireRepository } from '../db/queries/repositories.ts'
import { RECONCILE_SCHEDULE_ID, changeRepositoryWorkflowId, registerRepositoryWorkflowId } from '../temporal/workflow-ids.ts'
import { insertBackup, insertVm } from '../test/catalog-rows.ts'
import { failureOf } from '../test/failure.ts'
import { createHoldfastProcesses } from '../test/holdfast-processes.ts'
import type { HoldfastProcesses } from '../test/holdfast-processes.ts'
import { recordHistory } from '../test/recorded-histories.ts'

const repositoryId = 'repo-history'
const ofHost = { repositoryId, hostId: 'local' }
let holdfast: HoldfastProcesses
let path: string

beforeAll(async () => {
  holdfast = await createHoldfastProcesses()
  await holdfast.client.schedule.getHandle(RECONCILE_SCHEDULE_ID).pause()
  path = join(holdfast.home, 'repository-1')
  await mkdir(path)
})
afterAll(() => holdfast?.close())

const request = () => ({ repositoryId, name: 'history', type: 'local' as const, hostId: 'local', config: { path } })
const record = (name: string, workflowId: string) => recordHistory(holdfast.client, name, { workflowId })
const recordChange = (name: string) => record(name, changeRepositoryWorkflowId(repositoryId))

test('of registering and testing', async () => {
  const { operations, client } = holdfast
  await operations.registerRepository({ ...request(), settings: { minRetentionDays: 3 } })
  await record('register-repository', registerRepositoryWorkflowId(repositoryId))
  expect(await requireRepository(holdfast.catalog, repositoryId)).toMatchObject({ min_retention_days: 3, auto_mount: true })
  const twice = { ...request(), repositoryId: 'repo-twice' }
  expect((await failureOf(operations.registerRepository(twice))).code).toBe('REPO_EXISTS')
  await record('register-repository-refused', registerRepositoryWorkflowId('repo-twice'))
  const foreign = { ...request(), repositoryId: 'repo-undone', name: 'foreign', config: { path: join(holdfast.home, 'file') } }
  await mkdir(join(holdfast.home, 'file', 'foreign'), { recursive: true })
  expect((await failureOf(operations.registerRepository(foreign))).code).toBe('REPO_INVALID')
  await record('register-repository-undone', registerRepositoryWorkflowId('repo-undone'))
  const empty = { ...request(), repositoryId: 'repo-new', config: { path: join(holdfast.home, 'file', 'foreign') } }
  expect(await operations.testRepository(empty)).toMatchObject({ storage: { writable: true }, enforcement: null })
  const tests = async (): Promise<string[]> => {
    const ids: string[] = []
    for await (const { workflowId } of client.workflow.list({ query: 'WorkflowType = "testRepository"' })) ids.push(workflowId)
    return ids
  }
  // The list of workflows follows a moment later.
  await expect.poll(tests).toHaveLength(1)
  for (const workflowId of await tests()) await record('test-repository', workflowId)
})

test('of changing, mounting and unmounting', async () => {
  const { operations } = holdfast
  const change = { ...ofHost, name: 'moved', place: { config: { path: `${path}-moved` }, credentialsId: null } }
  expect((await failureOf(operations.changeRepository(change))).code).toBe('REPO_INVALID')
  await recordChange('change-repository-refused')
  await rename(path, `${path}-moved`)
  await operations.changeRepository(change)
  await recordChange('change-repository')
  expect(await requireRepository(holdfast.catalog, repositoryId)).toMatchObject({ name: 'moved', config: change.place.config })
  expect(await operations.mountRepository(ofHost)).toMatchObject({ mounted: false })
  await recordChange('mount-repository')
  expect(await operations.unmountRepository(ofHost, { force: false })).toMatchObject({ mounted: false })
  await recordChange('unmount-repository')
})

test('of deleting', async () => {
  const { operations, catalog } = holdfast
  await insertVm(catalog, 'ctx-1')
  await insertBackup(catalog, { id: 'backup-1', vm_context_id: 'ctx-1', repository_id: repositoryId })
  expect(await failureOf(operations.deleteRepository(ofHost, { force: true }))).toMatchObject({ code: 'REPO_IN_USE' })
  await recordChange('delete-repository-refused')
  await catalog.deleteFrom('backup_jobs').execute()
  expect(await operations.deleteRepository(ofHost, { force: false })).toEqual({ cleared: true })
  await recordChange('delete-repository')
  expect(await readdir(`${path}-moved`)).toEqual([])
  await operations.registerRepository({ ...request(), repositoryId })
  await rm(path, { recursive: true })
  expect(await operations.deleteRepository(ofHost, { force: true })).toEqual({ cleared: false })
  await recordChange('delete-repository-forced')
})
