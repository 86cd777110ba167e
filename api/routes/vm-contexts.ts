/** VMs: list, register, one, its disks, and which of them are left out. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { ulid } from 'ulid'
import { sourceNames } from '../../db/queries/sources.ts'
import {
  countVmContexts,
  disksOfVm,
  excludeDisks,
  findVmContext,
  listVmContexts,
  summarizeVmContexts,
} from '../../db/queries/vm-contexts.ts'
import type { VmContext } from '../../db/queries/vm-contexts.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import { foundDiskAnswer, vmContextAnswer, vmDiskAnswer } from '../answers/vm-contexts.ts'
import { checkExclusion } from '../disk-exclusion.ts'
import { cursorByName, readNameCursor } from '../cursor.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import type { StartOnce } from '../middleware/idempotency.ts'
import {
  changeVmRequest,
  registerVmAnswer,
  registerVmRequest,
  vmAnswer,
  vmDisksAnswer,
  vmListAnswer,
  vmListQuery,
  vmParameter,
} from '../schemas/vm-contexts.ts'
import { chooseVmByIdOrName } from '../vm-choice.ts'
import { answers, createApi, idempotencyHeader, jsonBody } from './route.ts'
import type { Api } from './route.ts'

const tags = ['vm-contexts']

const listRoute = createRoute({
  method: 'get',
  path: '/vm-contexts',
  tags,
  summary: 'The VMs that Holdfast knows, by name',
  middleware: permit('vm.view'),
  request: { query: vmListQuery },
  responses: answers(200, 'One page', vmListAnswer),
})

const registerRoute = createRoute({
  method: 'post',
  path: '/vm-contexts',
  tags,
  summary: 'Register a VM from its disks',
  description: 'The mover of the host looks at every disk before the VM is recorded.',
  middleware: permit('vm.register'),
  request: { headers: idempotencyHeader, body: jsonBody(registerVmRequest) },
  responses: answers(201, 'Registered', registerVmAnswer),
})

const oneRoute = createRoute({
  method: 'get',
  path: '/vm-contexts/{vm}',
  tags,
  summary: 'One VM with its disks',
  middleware: permit('vm.view'),
  request: { params: vmParameter },
  responses: answers(200, 'The VM', vmAnswer),
})

const changeRoute = createRoute({
  method: 'patch',
  path: '/vm-contexts/{vm}',
  tags,
  summary: 'Choose the disks that backups leave out',
  description: 'From the next backup on. A disk that is left out begins again with a full when it comes back.',
  middleware: permit('vm.configure'),
  request: { params: vmParameter, body: jsonBody(changeVmRequest) },
  responses: answers(200, 'The VM as it is now', vmAnswer),
})

const disksRoute = createRoute({
  method: 'get',
  path: '/vm-contexts/{vm}/disks',
  tags,
  summary: 'The disks of a VM',
  middleware: permit('vm.view'),
  request: { params: vmParameter },
  responses: answers(200, 'The disks', vmDisksAnswer),
})

export function vmContexts(dependencies: ApiDependencies, startOnce: StartOnce): Api {
  const { catalog } = dependencies
  return createApi()
    .openapi(listRoute, async (c) => c.json(await listVms(dependencies, c.req.valid('query')), 200))
    .openapi(registerRoute, async (c) => {
      const request = c.req.valid('json')
      const answer = await startOnce(c, {
        request: { verb: 'register VM', body: request },
        statusCode: 201,
        shape: registerVmAnswer,
        newId: () => `ctx-${ulid().toLowerCase()}`,
        recall: (contextId) => registeredVm(dependencies, contextId),
        start: (contextId) => registerVm(dependencies, contextId, request),
      })
      return c.json(answer, 201)
    })
    .openapi(oneRoute, async (c) => {
      const vm = await chooseVmByIdOrName(catalog, c.req.valid('param').vm)
      return c.json(await showVm(dependencies, vm), 200)
    })
    .openapi(changeRoute, async (c) => {
      const { context_id: contextId } = await chooseVmByIdOrName(catalog, c.req.valid('param').vm)
      const { excluded_disks: excluded } = c.req.valid('json')
      await excludeDisks(catalog, contextId, excluded, (vm, present) => checkExclusion(vm, present, excluded))
      return c.json(await showVm(dependencies, await chooseVmByIdOrName(catalog, contextId)), 200)
    })
    .openapi(disksRoute, async (c) => {
      const vm = await chooseVmByIdOrName(catalog, c.req.valid('param').vm)
      const disks = (await disksOfVm(catalog, vm.context_id)).map((disk) => vmDiskAnswer(disk, vm))
      return c.json(
        { success: true as const, context_id: vm.context_id, vm_name: vm.vm_name, disks, total_disks: disks.length },
        200,
      )
    })
}

async function showVm({ catalog }: ApiDependencies, vm: VmContext): Promise<z.infer<typeof vmAnswer>> {
  const contextId = vm.context_id
  const [disks, summaries, sources] = await Promise.all([
    disksOfVm(catalog, contextId),
    summarizeVmContexts(catalog, [contextId]),
    sourceNames(catalog, sourceIdsOf([vm])),
  ])
  const shown = disks.map((disk) => vmDiskAnswer(disk, vm))
  const vm_context = vmContextAnswer(vm, sources.get(vm.source_id ?? '') ?? null, summaries.get(contextId))
  return { success: true, vm_context, disks: shown, total_disks: shown.length }
}

function sourceIdsOf(vms: readonly VmContext[]): string[] {
  return [...new Set(vms.flatMap((vm) => (vm.source_id === null ? [] : [vm.source_id])))]
}

async function listVms({ catalog }: ApiDependencies, query: z.output<typeof vmListQuery>): Promise<z.infer<typeof vmListAnswer>> {
  const { limit } = query
  const filter = {
    vmName: query.vm_name,
    search: query.search,
    sourceType: query.source_type,
    hostId: query.host_id,
    sourceId: query.source_id,
    status: query.status,
  }
  const [found, total] = await Promise.all([
    listVmContexts(catalog, filter, { limit: limit + 1, after: readNameCursor(query.cursor) }),
    countVmContexts(catalog, filter),
  ])
  const page = found.slice(0, limit)
  const contextIds = page.map((vm) => vm.context_id)
  const [summaries, sources] = await Promise.all([
    summarizeVmContexts(catalog, contextIds),
    sourceNames(catalog, sourceIdsOf(page)),
  ])
  const last = found.length > limit ? page.at(-1) : undefined
  return {
    success: true,
    vm_contexts: page.map((vm) => vmContextAnswer(vm, sources.get(vm.source_id ?? '') ?? null, summaries.get(vm.context_id))),
    count: page.length,
    total_count: total,
    next_cursor: last ? cursorByName({ name: last.vm_name, id: last.context_id }) : null,
  }
}

type RegisterVmAnswer = z.infer<typeof registerVmAnswer>

async function registerVm(
  { operations, hostId }: ApiDependencies,
  contextId: string,
  request: z.output<typeof registerVmRequest>,
): Promise<RegisterVmAnswer> {
  if (request.source_type !== 'disk-image') {
    const advice =
      request.source_type === 'libvirt'
        ? 'VMs of libvirt are not registered but found: add a connection with POST /sources, then POST /sources/{id}/discover.'
        : `VMs of type "${request.source_type}" cannot be registered yet: use "disk-image".`
    throw new HoldfastError('SOURCE_TYPE_UNSUPPORTED', advice, {
      details: { source_type: request.source_type, supported: ['disk-image'] },
    })
  }
  const config: JsonObject = { disks: request.disks.map(givenFields) }
  const vm = await operations.registerVm({
    contextId,
    vmName: request.vm_name,
    sourceType: request.source_type,
    hostId: request.host_id ?? hostId,
    config,
  })
  const disks = vm.disks.map((disk) => foundDiskAnswer(disk, config))
  return registered(contextId, request.vm_name, disks)
}

/** Only what was said: the source finds out the rest. */
function givenFields(disk: object): JsonObject {
  return Object.fromEntries(Object.entries(disk).filter(([, value]) => value !== undefined))
}

async function registeredVm({ catalog }: ApiDependencies, contextId: string): Promise<RegisterVmAnswer | undefined> {
  const vm = await findVmContext(catalog, contextId)
  if (!vm) return undefined
  const disks = await disksOfVm(catalog, contextId)
  return registered(
    contextId,
    vm.vm_name,
    disks.map((disk) => vmDiskAnswer(disk, vm)),
  )
}

function registered(contextId: string, vmName: string, disks: RegisterVmAnswer['disks']): RegisterVmAnswer {
  return {
    success: true,
    context_id: contextId,
    vm_context_id: contextId,
    vm_name: vmName,
    disks,
    total_disks: disks.length,
    message: `VM registered with ${disks.length} ${disks.length === 1 ? 'disk' : 'disks'}`,
  }
}
