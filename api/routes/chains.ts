/** The recovery points of a VM. */
import { createRoute } from '@hono/zod-openapi'
import type { z } from '@hono/zod-openapi'
import { findNewestChain } from '../../db/queries/chains.ts'
import { requireRepository } from '../../db/queries/repositories.ts'
import { HoldfastError } from '../../domain/errors.ts'
import { chainOfVmAnswer } from '../answers/chains.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { permit } from '../middleware/authorize.ts'
import { chainAnswer, chainQuery } from '../schemas/chains.ts'
import { chooseVm } from '../vm-choice.ts'
import { answers, createApi } from './route.ts'
import type { Api } from './route.ts'

const chainRoute = <Path extends string>(path: Path) =>
  createRoute({
    method: 'get',
    path,
    tags: ['backups'],
    summary: 'The newest chain of a VM: its recovery points, oldest first',
    middleware: permit('backup.view'),
    request: { query: chainQuery },
    responses: answers(200, 'The chain', chainAnswer),
  })

export function chains(dependencies: ApiDependencies): Api {
  const answer = (query: z.output<typeof chainQuery>) => newestChain(dependencies, query)
  return createApi()
    .openapi(chainRoute('/backups/chain'), async (c) => c.json(await answer(c.req.valid('query')), 200))
    .openapi(chainRoute('/backup/chain'), async (c) => c.json(await answer(c.req.valid('query')), 200))
}

async function newestChain(
  dependencies: ApiDependencies,
  query: z.output<typeof chainQuery>,
): Promise<z.infer<typeof chainAnswer>> {
  const { catalog } = dependencies
  const vm = await chooseVm(catalog, query)
  if (query.repository_id !== undefined) await requireRepository(dependencies.catalog, query.repository_id)
  const found = await findNewestChain(catalog, vm.context_id, query.repository_id)
  if (!found) {
    throw new HoldfastError('CHAIN_NOT_FOUND', 'This VM has no completed backup there, so no chain: start a backup first.', {
      details: { vm_context_id: vm.context_id, ...(query.repository_id !== undefined && { repository_id: query.repository_id }) },
    })
  }
  if (query.disk_id !== undefined && ![...found.disks.values()].flat().some((disk) => disk.disk_index === query.disk_id)) {
    throw new HoldfastError('DISK_NOT_FOUND', `No backup of the chain has a disk ${query.disk_id}.`, {
      details: { disk_id: query.disk_id },
    })
  }
  return chainOfVmAnswer(found, { vm, diskIndex: query.disk_id, form: query.vm_context_id === undefined ? 'list' : 'object' })
}
