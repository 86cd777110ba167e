/** Places where backups are kept. */
import { z } from '@hono/zod-openapi'
import { absolutePath, hostId, id, name, pageFields, pageQuery, percentage, sizeBytes, success, time } from './fields.ts'

export const repositoryType = z.enum(['local', 'nfs', 'cifs', 'smb', 's3'])

export const repositoryParameter = z.strictObject({ id: id.openapi({ param: { name: 'id', in: 'path' } }) })

export const repositoryListQuery = z.strictObject({
  ...pageQuery,
  enabled: z
    .enum(['true', 'false'])
    .transform((text) => text === 'true')
    .optional(),
})

// The kind decides what belongs in the configuration; it is checked against the kind's own schema once the kind is known.
const config = z.record(z.string().max(64), z.unknown()).openapi({
  description: 'local: {"path": "/absolute/folder"}. Credentials have no place here.',
  example: { path: '/srv/backups' },
})

export const localConfig = z.strictObject({ path: absolutePath })

export const registerRepositoryRequest = z
  .strictObject({
    name,
    type: repositoryType,
    enabled: z.boolean().default(true),
    is_immutable: z.literal(false, 'immutable repositories are not offered yet').optional(),
    config,
    host_id: hostId.optional(),
  })
  .openapi('RegisterRepositoryRequest')

export const testRepositoryRequest = z
  .strictObject({ type: repositoryType, config, host_id: hostId.optional() })
  .openapi('TestRepositoryRequest')

const space = { total_bytes: sizeBytes, used_bytes: sizeBytes, available_bytes: sizeBytes, used_percentage: percentage }

export const repository = z
  .strictObject({
    id: z.string(),
    name: z.string(),
    type: repositoryType,
    enabled: z.boolean(),
    is_immutable: z.boolean(),
    config: z.record(z.string(), z.unknown()),
    host_id: z.string(),
    storage: z.strictObject({ ...space, last_check_at: time.nullable() }),
    created_at: time,
    updated_at: time,
  })
  .openapi('Repository')

const probedStorage = z.strictObject({ ...space, writable: z.boolean() })

export const repositoryListAnswer = z
  .strictObject({ success, repositories: z.array(repository), ...pageFields })
  .openapi('RepositoryList')

export const repositoryAnswer = z.strictObject({ success, repository }).openapi('RepositoryAnswer')

export const registerRepositoryAnswer = z
  .strictObject({ success, repository_id: z.string(), message: z.string(), storage: probedStorage })
  .openapi('RegisterRepositoryAnswer')

export const testRepositoryAnswer = z
  .strictObject({ success, message: z.string(), storage: probedStorage })
  .openapi('TestRepositoryAnswer')
