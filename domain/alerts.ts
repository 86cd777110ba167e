/** What a person has to know and do something about. Of one cause at most one alert is open. */

/**
 * - `storage_warning`, `storage_critical`: a repository fills up
 * - `repository_offline`, `repository_read_only`: it cannot be reached, or takes no files
 * - `immutability_broken`: a lock that the catalog promises is not there
 * - `backup_parked`: a backup waits for room, or for its repository
 */
export const alertKinds = [
  'storage_warning',
  'storage_critical',
  'repository_offline',
  'repository_read_only',
  'immutability_broken',
  'backup_parked',
] as const
export type AlertKind = (typeof alertKinds)[number]

export type AlertSeverity = 'warning' | 'critical'
export const alertStates = ['open', 'acknowledged', 'resolved'] as const
export type AlertState = (typeof alertStates)[number]

/** Names the cause: two alerts of one cause are one. `subject`: a repository's or a backup's id. */
export function alertCause(kind: AlertKind, subject: string): string {
  return `${kind}:${subject}`
}
