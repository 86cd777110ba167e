/** Source connections: platforms that VMs come from. */
import { z } from '@hono/zod-openapi'
import { absolutePath, errorCodeOrNull, hostId, id, name, pageFields, pageQuery, success, time } from './fields.ts'
import { sourceType } from './vm-contexts.ts'

/** Where the hypervisor keeps what guests overwrite during a backup, unless told otherwise. */
const DEFAULT_SCRATCH_FOLDER = '/var/tmp'
const DEFAULT_CONCURRENT_BACKUPS = 4

const sourceState = z.enum(['untested', 'reachable', 'unreachable'])

export const sourceParameter = z.strictObject({ id: id.openapi({ param: { name: 'id', in: 'path' } }) })

export const sourceListQuery = z.strictObject({
  ...pageQuery,
  source_type: sourceType.optional(),
  host_id: hostId.optional(),
  status: sourceState.optional(),
})

/** Only its form: what a platform's URI may say is judged by the mover that uses it. A password would end in catalogs and histories. */
const uri = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[a-z][a-z0-9+.-]*:\/\/[\x21-\x7e]*$/, 'give a connection URI such as qemu:///system or qemu+ssh://user@host/system')
  .refine((text) => !/^[^/]*\/\/[^/?#]*:[^/?#]*@/.test(text), 'a URI must not hold a password')

const text = /^[\t\n\r\x20-\x7e]*$/

const knownHosts = z
  .string()
  .max(16_384)
  .regex(text, 'give lines of a known_hosts file')
  .refine((lines) => !lines.includes('PRIVATE KEY'), 'a private key belongs into "credentials", where it is sealed')
  .openapi({ description: "known_hosts lines of the hypervisor's host; the mover user's own file when absent" })

/** As they come in. Never answered, logged or stored unsealed. Short enough to be stored sealed. */
const credentials = z
  .strictObject({
    ssh_private_key: z
      .string()
      .min(1)
      .max(8_000)
      .regex(text, 'give the key as text')
      .refine((key) => /^-----BEGIN [A-Z0-9 ]+-----\r?\n/.test(key.trimStart()), 'give the whole key, from -----BEGIN on')
      .openapi({ format: 'password', description: 'Without a passphrase' }),
  })
  .openapi('SourceCredentials')

const maxConcurrentBackups = z.int().min(1).max(100).openapi({ description: 'More wait until one has ended' })

export const registerSourceRequest = z
  .strictObject({
    name,
    source_type: sourceType,
    uri,
    scratch_folder: absolutePath.default(DEFAULT_SCRATCH_FOLDER).openapi({
      description: "On the hypervisor's host: where QEMU keeps what the guest overwrites during a backup",
    }),
    ssh_known_hosts: knownHosts.optional(),
    credentials: credentials.optional(),
    max_concurrent_backups: maxConcurrentBackups.default(DEFAULT_CONCURRENT_BACKUPS),
    host_id: hostId.optional().openapi({ description: 'The mover that reaches the platform; this host when absent' }),
  })
  .openapi('RegisterSourceRequest')

export const changeSourceRequest = z
  .strictObject({
    name: name.optional(),
    uri: uri.optional(),
    scratch_folder: absolutePath.optional(),
    ssh_known_hosts: knownHosts.nullable().optional().openapi({ description: 'null: none any more' }),
    credentials: z.union([credentials, z.null()]).optional().openapi({ description: 'null: none any more' }),
    max_concurrent_backups: maxConcurrentBackups.optional(),
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'give what to change')
  .openapi('ChangeSourceRequest')

export const source = z
  .strictObject({
    id: z.string(),
    source_id: z.string(),
    name: z.string(),
    source_type: sourceType,
    uri: z.string().nullable(),
    scratch_folder: z.string().nullable(),
    ssh_known_hosts: z.string().nullable(),
    has_credentials: z.boolean(),
    max_concurrent_backups: z.int(),
    host_id: z.string(),
    status: sourceState.openapi({ description: 'Of the last test or discovery' }),
    version: z.string().nullable(),
    hostname: z.string().nullable(),
    warnings: z.array(z.string()).openapi({ description: 'What will not work, and what to do about it' }),
    error_code: errorCodeOrNull,
    error_message: z.string().nullable(),
    vm_count: z.int().openapi({ description: 'VMs that were found through it, vanished ones included' }),
    last_tested_at: time.nullable(),
    last_discovered_at: time.nullable(),
    created_at: time,
    updated_at: time,
  })
  .openapi('Source')

export const sourceListAnswer = z.strictObject({ success, sources: z.array(source), ...pageFields }).openapi('SourceList')

export const sourceAnswer = z.strictObject({ success, source }).openapi('SourceAnswer')

export const changedSourceAnswer = z
  .strictObject({ success, source_id: z.string(), message: z.string(), source })
  .openapi('ChangedSourceAnswer')

export const deleteSourceAnswer = z
  .strictObject({ success, source_id: z.string(), removed_vm_count: z.int(), message: z.string() })
  .openapi('DeleteSourceAnswer')

const count = z.int().min(0)

export const discoverAnswer = z
  .strictObject({
    success,
    source_id: z.string(),
    found: count,
    added: count,
    updated: count.openapi({ description: 'Known before, and something about it is new' }),
    vanished: count.openapi({ description: 'Not found any more; their backups stay' }),
    problems: z
      .array(z.strictObject({ vm_name: z.string(), external_id: z.string(), error: z.string() }))
      .openapi({ description: 'VMs that could not be described; the first hundred' }),
    problem_count: count,
    message: z.string(),
  })
  .openapi('DiscoverAnswer')
