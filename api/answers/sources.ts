/** Source connections as the API shows them. */
import type { z } from '@hono/zod-openapi'
import type { SourceRow } from '../../db/queries/sources.ts'
import type { JsonValue } from '../../domain/errors.ts'
import type { Discovery } from '../../temporal/operations.ts'
import type { discoverAnswer, source } from '../schemas/sources.ts'
import { timeOrNull } from './units.ts'

/** Field by field: what the configuration may hold one day is not shown by accident. */
export function sourceAnswer(row: SourceRow, vmCount: number): z.infer<typeof source> {
  return {
    id: row.id,
    source_id: row.id,
    name: row.name,
    source_type: row.source_type,
    uri: textOrNull(row.config['uri']),
    scratch_folder: textOrNull(row.config['scratch_folder']),
    ssh_known_hosts: textOrNull(row.config['ssh_known_hosts']),
    has_credentials: row.credentials_id !== null,
    max_concurrent_backups: row.max_concurrent_backups,
    host_id: row.host_id,
    status: row.status,
    version: row.version,
    hostname: row.hostname,
    warnings: row.warnings,
    error_code: row.error_code,
    error_message: row.error_message,
    vm_count: vmCount,
    last_tested_at: timeOrNull(row.last_tested_at),
    last_discovered_at: timeOrNull(row.last_discovered_at),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  }
}

export function discoveryAnswer(sourceId: string, discovery: Discovery): z.infer<typeof discoverAnswer> {
  const { found, added, updated, vanished, problems, problemCount } = discovery
  return {
    success: true,
    source_id: sourceId,
    found,
    added,
    updated,
    vanished,
    problems: problems.map(({ vmName, externalId, error }) => ({ vm_name: vmName, external_id: externalId, error })),
    problem_count: problemCount,
    message: `${found} ${found === 1 ? 'VM' : 'VMs'} found: ${added} new, ${updated} changed, ${vanished} vanished${problemCount === 0 ? '' : `, ${problemCount} that could not be described`}`,
  }
}

function textOrNull(value: JsonValue | undefined): string | null {
  return typeof value === 'string' ? value : null
}
