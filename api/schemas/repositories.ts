/** Places where backups are kept. */
import { z } from '@hono/zod-openapi'
import { immutabilityMethods } from '../../domain/immutability.ts'
import { LONGEST_RETENTION_DAYS, LOWEST_THRESHOLD_PERCENT } from '../../domain/repository-settings.ts'
import { healthStates } from '../../domain/storage-health.ts'
import { hostId, id, name, pageFields, pageQuery, percentage, sizeBytes, success, time } from './fields.ts'

export const repositoryType = z.enum(['local', 'nfs', 'cifs', 'smb', 's3'])

export const healthStatus = z.enum(healthStates).openapi({
  description: 'Of the last look at it; "unknown" before the first or long after a good one, "offline" when it got no answer',
})

export const repositoryParameter = z.strictObject({ id: id.openapi({ param: { name: 'id', in: 'path' } }) })

const flag = z.enum(['true', 'false']).transform((text) => text === 'true')

export const repositoryListQuery = z.strictObject({
  ...pageQuery,
  type: repositoryType.optional(),
  health: healthStatus.optional(),
  enabled: flag.optional(),
  host_id: hostId.optional(),
})

export const forceQuery = z.strictObject({ force: flag.default(false) })

// The type decides what belongs in the configuration; domain/repository-place.ts checks it.
const config = z.record(z.string().max(64), z.unknown()).openapi({
  description:
    'local: `path`. nfs: `server`, `export_path`, `mount_options`. cifs, smb: `server`, `share_name`, `domain`, `username`, `password`, `mount_options`. ' +
    'The password is sealed and never shown again.',
  example: { path: '/srv/backups' },
})

const percent = z.int().min(LOWEST_THRESHOLD_PERCENT).max(100)
const days = z.int().min(1).max(LONGEST_RETENTION_DAYS)

const thresholds = z
  .strictObject({ warning_percent: percent.optional(), critical_percent: percent.optional() })
  .openapi({ description: 'Of the space that backups may use: from here on it warns (90), and takes no new backups (95)' })

const immutableConfig = z
  .strictObject({
    method: z.enum(immutabilityMethods).default('linux_chattr'),
    retention_period_days: days.openapi({ description: 'For so long published backups are locked' }),
  })
  .openapi('ImmutableConfig')

const minRetentionDays = days.openapi({ description: 'No backup goes before it is so old, locked or not' })
const autoMount = z.boolean().openapi({ description: 'A share is mounted when its mover starts, not only by its first use' })

export const registerRepositoryRequest = z
  .strictObject({
    name,
    type: repositoryType,
    enabled: z.boolean().default(true),
    auto_mount: autoMount.default(true),
    thresholds: thresholds.optional(),
    is_immutable: z.boolean().default(false),
    immutable_config: immutableConfig.optional(),
    min_retention_days: minRetentionDays.optional(),
    config,
    host_id: hostId.optional(),
  })
  .openapi('RegisterRepositoryRequest')

export const testRepositoryRequest = z
  .strictObject({
    type: repositoryType,
    config,
    is_immutable: z.boolean().default(false).openapi({ description: 'Also try whether locked files stay as they are' }),
    host_id: hostId.optional(),
  })
  .openapi('TestRepositoryRequest')

export const changeRepositoryRequest = z
  .strictObject({
    name: name.optional(),
    enabled: z.boolean().optional(),
    auto_mount: autoMount.optional(),
    thresholds: thresholds.nullable().optional().openapi({ description: 'null: the default ones' }),
    is_immutable: z.boolean().optional().openapi({ description: 'false: no new locks; those there are stay until their dates' }),
    immutable_config: immutableConfig.optional(),
    min_retention_days: minRetentionDays.nullable().optional().openapi({ description: 'null: none' }),
    config: config.optional().openapi({
      description: 'What is given replaces what was; the rest stays. The new place must hold this very repository',
      example: { server: 'nas2.example.com' },
    }),
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'give what to change')
  .openapi('ChangeRepositoryRequest')

const space = { total_bytes: sizeBytes, used_bytes: sizeBytes, available_bytes: sizeBytes, used_percentage: percentage }

const enforcement = {
  enforced_by: z.enum(['chattr', 'none']).openapi({ description: 'As it was really tried in this place' }),
  reason: z.string().nullable().openapi({ description: 'Why nothing is enforced' }),
}

export const repository = z
  .strictObject({
    id: z.string(),
    name: z.string(),
    type: repositoryType,
    enabled: z.boolean().openapi({ description: 'What an administrator decided' }),
    accepts_backups: z.boolean().openapi({ description: 'Enabled, not stopped, and not offline' }),
    stopped_at: time.nullable().openapi({ description: 'Since when it takes no new backups because it is too full' }),
    auto_mount: z.boolean(),
    is_immutable: z.boolean(),
    immutable_config: z
      .strictObject({
        method: z.enum(immutabilityMethods),
        retention_period_days: z.int(),
        locked: z.boolean().openapi({ description: 'Whether new backups are really locked; false claims nothing' }),
        ...enforcement,
        enforced_by: enforcement.enforced_by.nullable(),
        attested_at: time.nullable().openapi({ description: 'When all locks were last seen to hold' }),
      })
      .nullable(),
    min_retention_days: z.int().nullable(),
    thresholds: z.strictObject({ warning_percent: z.int(), critical_percent: z.int() }),
    config: z.record(z.string(), z.unknown()).openapi({ description: 'With `password_set` where a password is stored' }),
    host_id: z.string(),
    health_status: healthStatus,
    health_message: z.string().nullable(),
    health_since: time.nullable(),
    storage: z.strictObject({
      ...space,
      total_inodes: sizeBytes,
      used_inodes: sizeBytes,
      latency_ms: z.int().nullable().openapi({ description: 'Of the last look, with its write test' }),
      last_check_at: time.nullable(),
    }),
    created_at: time,
    updated_at: time,
  })
  .openapi('Repository')

const probedStorage = z.strictObject({ ...space, writable: z.boolean() })
const triedImmutability = z.strictObject(enforcement).nullable().openapi({ description: 'null: not asked for' })

export const repositoryListAnswer = z
  .strictObject({ success, repositories: z.array(repository), ...pageFields })
  .openapi('RepositoryList')

export const repositoryAnswer = z.strictObject({ success, repository }).openapi('RepositoryAnswer')

export const registerRepositoryAnswer = z
  .strictObject({
    success,
    repository_id: z.string(),
    message: z.string(),
    storage: probedStorage,
    immutability: triedImmutability,
  })
  .openapi('RegisterRepositoryAnswer')

export const testRepositoryAnswer = z
  .strictObject({ success, message: z.string(), storage: probedStorage, immutability: triedImmutability })
  .openapi('TestRepositoryAnswer')

export const changeRepositoryAnswer = z
  .strictObject({ success, repository_id: z.string(), message: z.string(), repository })
  .openapi('ChangeRepositoryAnswer')

export const deleteRepositoryAnswer = z
  .strictObject({
    success,
    repository_id: z.string(),
    message: z.string(),
    cleared: z.boolean().openapi({ description: 'Nothing of it is left in its place, which can be registered again' }),
  })
  .openapi('DeleteRepositoryAnswer')

export const mountRepositoryAnswer = z
  .strictObject({
    success,
    repository_id: z.string(),
    message: z.string(),
    mounted: z.boolean(),
    mount_point: z.string().nullable(),
    source: z.string().nullable(),
    file_system: z.string().nullable(),
  })
  .openapi('MountRepositoryAnswer')

export const attestLocksAnswer = z
  .strictObject({
    success,
    repository_id: z.string(),
    checked: z.int().openapi({ description: 'Backups that should be locked' }),
    broken: z
      .array(
        z.strictObject({
          backup_id: z.string(),
          missing: z.array(z.string()).openapi({ description: 'What of the lock was not there' }),
          relocked: z.boolean().openapi({ description: 'Whether all of it is there again' }),
        }),
      )
      .openapi({ description: 'Those that were not' }),
  })
  .openapi('AttestLocksAnswer')
