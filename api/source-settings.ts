/** What a source connection is to be: from a request, or from what it is and what a request changes. */
import type { z } from '@hono/zod-openapi'
import type { SourceRow } from '../db/queries/sources.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { sealCredentials } from '../security/sealed-credentials.ts'
import type { SourceRequest } from '../temporal/operations.ts'
import type { ApiDependencies } from './dependencies.ts'
import type { changeSourceRequest, registerSourceRequest } from './schemas/sources.ts'

type Credentials = z.output<typeof registerSourceRequest>['credentials'] | null
/** All but the credentials: these are sealed last, right before something is started that takes care of them. */
export type SourceSettings = Omit<SourceRequest, 'credentialsId'>

/** `SOURCE_TYPE_UNSUPPORTED` */
export function newSettings(
  sourceId: string,
  request: z.output<typeof registerSourceRequest>,
  { hostId }: Pick<ApiDependencies, 'hostId'>,
): SourceSettings {
  const { name, source_type: sourceType, uri, scratch_folder, ssh_known_hosts } = request
  if (sourceType !== 'libvirt') {
    throw new HoldfastError('SOURCE_TYPE_UNSUPPORTED', adviceFor(sourceType), {
      details: { source_type: sourceType, supported: ['libvirt'] },
    })
  }
  return {
    sourceId,
    name,
    sourceType,
    hostId: request.host_id ?? hostId,
    config: given({ uri, scratch_folder, ssh_known_hosts }),
    maxConcurrentBackups: request.max_concurrent_backups,
  }
}

function adviceFor(sourceType: string): string {
  return sourceType === 'disk-image'
    ? 'Disk images need no source connection: register their VM with POST /vm-contexts.'
    : `Sources of type "${sourceType}" cannot be connected to yet: use "libvirt".`
}

export function changedSettings(row: SourceRow, change: z.output<typeof changeSourceRequest>): SourceSettings {
  const { uri, scratch_folder, ssh_known_hosts } = change
  const { ssh_known_hosts: hostsBefore, ...before } = row.config
  const hosts = ssh_known_hosts === undefined ? hostsBefore : (ssh_known_hosts ?? undefined)
  return {
    sourceId: row.id,
    name: change.name ?? row.name,
    sourceType: row.source_type,
    hostId: row.host_id,
    config: { ...before, ...given({ uri, scratch_folder, ssh_known_hosts: hosts }) },
    maxConcurrentBackups: change.max_concurrent_backups ?? row.max_concurrent_backups,
  }
}

/** Whether the change has a bearing on how the platform is reached. */
export function changesConnection(change: z.output<typeof changeSourceRequest>): boolean {
  const { uri, scratch_folder, ssh_known_hosts, credentials } = change
  return [uri, scratch_folder, ssh_known_hosts, credentials].some((value) => value !== undefined)
}

/** Seals and stores new credentials and returns their id; `null` without any. */
export async function sealed({ catalog, keysFolder }: ApiDependencies, credentials: Credentials): Promise<string | null> {
  if (credentials === undefined || credentials === null) return null
  // One line end at the end: ssh refuses a key without.
  const ssh_private_key = `${credentials.ssh_private_key.replaceAll('\r', '').trim()}\n`
  return sealCredentials(catalog, keysFolder, { ssh_private_key })
}

/** The request without its secrets, for what is kept of it. */
export function withoutSecrets(request: z.output<typeof registerSourceRequest>): object {
  return { ...request, credentials: request.credentials === undefined ? 'none' : 'given' }
}

function given(values: Record<string, JsonObject[string] | undefined>): JsonObject {
  return Object.fromEntries(
    Object.entries(values).filter((entry): entry is [string, JsonObject[string]] => entry[1] !== undefined),
  )
}
