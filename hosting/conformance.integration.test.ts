/** The contract of a repository, kept by a process of its own for a folder that lies on FUSE. One process for all tests: starting it is what takes long. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import type { HostedRepository } from '../hosting/hosted-repository.ts'
import { describeRepository } from '../repositories/conformance.ts'
import { createFaultFileSystem, type FaultFileSystem } from '../test/fault-file-system.ts'
import { createHostedShares, type HostedShares } from '../test/hosted-shares.ts'

let system: FaultFileSystem
let shares: HostedShares
beforeAll(async () => {
  system = await createFaultFileSystem()
  shares = await createHostedShares()
})
afterAll(async () => {
  await shares.close()
  await system.close()
})

describeRepository('in a process of its own', async () => {
  const withId = (id: string): HostedRepository => {
    const config = { path: join(system.folder, 'repository') }
    return shares.host.open({ id, type: 'local', config, credentialsId: null })
  }
  const cleanUp = (): Promise<void> => rm(join(system.behind, 'repository'), { recursive: true, force: true })
  return { repository: withId(`repo-of-${process.pid}`), withId, cleanUp }
})
