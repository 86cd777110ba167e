/** The repositories of this mover, with the real shares and credentials. */
import type { Catalog } from '../db/client.ts'
import type { Deadlines } from '../hosting/deadlines.ts'
import type { RepositoryHost } from '../hosting/hosted-repository.ts'
import { LocalRepositoryHost } from '../hosting/repository-host.ts'
import { ShareDesk } from '../hosting/share-desk.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { Mounter } from '../repositories/share-mounts.ts'
import { homeFolders } from '../runtime/environment.ts'
import type { Environment } from '../runtime/environment.ts'
import type { Logger } from '../runtime/logger.ts'
import { unsealCredentials } from '../security/sealed-credentials.ts'
import { createMounter } from '../tools/mount.ts'

interface HostingOptions {
  environment: Environment
  catalog: Catalog
  logger: Logger
  options: { mounter?: Mounter; deadlines?: Deadlines }
}

/** The desk beside them is for the start only: see `mount-at-start.ts`. */
export function createRepositoryHost({ environment, catalog, logger, options }: HostingOptions): {
  repositories: RepositoryHost
  desk: ShareDesk
} {
  const { keys, mounts: mountsFolder } = homeFolders(environment.home)
  const desk = new ShareDesk({
    folder: mountsFolder,
    mounter: options.mounter ?? createMounter(),
    passwordOf: async (credentialsId) => passwordIn(await unsealCredentials(catalog, keys, credentialsId), credentialsId),
  })
  const log = (level: 'info' | 'warn', message: string): void => logger[level](message)
  const { deadlines } = options
  return { desk, repositories: new LocalRepositoryHost({ desk, mountsFolder, log, ...(deadlines ? { deadlines } : {}) }) }
}

function passwordIn(credentials: unknown, credentialsId: string): string {
  const password =
    typeof credentials === 'object' && credentials !== null && 'password' in credentials ? credentials.password : undefined
  if (typeof password === 'string') return password
  throw new HoldfastError('INTERNAL', `Credentials ${credentialsId} hold no password: give them again.`)
}
