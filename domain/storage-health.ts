/** How a repository is, judged from what looks at it found. */
import type { AlertKind, AlertSeverity } from './alerts.ts'
import type { JsonObject } from './errors.ts'
import type { StorageInfo } from './storage.ts'

/**
 * - `unknown`: nobody has looked yet
 * - `healthy`, `warning`, `critical`: by how full it is, and whether it takes files
 * - `offline`: the last look got no answer
 */
export const healthStates = ['unknown', 'healthy', 'warning', 'critical', 'offline'] as const
export type HealthState = (typeof healthStates)[number]

/** In per cent of the space that backups may use; of the inodes, too, where the file system counts them. */
export interface Thresholds {
  /** From here on it warns, and below it a repository that was stopped takes new backups again. Default 90. */
  warningPercent: number
  /** From here on it takes no new backups. Default 95. */
  criticalPercent: number
}

export const DEFAULT_THRESHOLDS: Thresholds = { warningPercent: 90, criticalPercent: 95 }

/** What one look found. Unreachable is a result, not a failure. */
export type StorageLook =
  // `latencyMs` is `null` where nobody took the time.
  | { reached: true; storage: StorageInfo; latencyMs: number | null }
  | { reached: false; code: string; message: string; latencyMs: number }

export interface KnownHealth {
  health: HealthState
  /** For people. */
  message: string | null
  since: Date | null
}

/** Looks that were missed, and their time besides, before nobody counts on what was found. */
const MISSED_LOOKS = 3
const MISSED_LEAST_MS = 15 * 60_000

/** After how many milliseconds without a look nothing is claimed any more, when there should be one every `intervalSeconds`. */
export function staleAfterMs(intervalSeconds: number): number {
  return Math.max(MISSED_LEAST_MS, MISSED_LOOKS * intervalSeconds * 1000)
}

/** That all was well when somebody last looked, says nothing when that was before `staleBefore`. What was wrong stays so until somebody sees otherwise. */
export function healthNow(known: KnownHealth & { lookedAt: Date | null; isLeftAlone: boolean }, staleBefore: Date): KnownHealth {
  const { health, message, since, lookedAt, isLeftAlone } = known
  const wasWell = health === 'healthy' || health === 'warning'
  if (health === 'unknown' && isLeftAlone) return { health, message: LEFT_ALONE, since }
  if (!wasWell || lookedAt === null || lookedAt >= staleBefore) return { health, message, since }
  const advice = isLeftAlone ? LEFT_ALONE : 'Check that a control worker runs.'
  return { health: 'unknown', message: `Nobody has looked at it since ${lookedAt.toISOString()}. ${advice}`, since: lookedAt }
}

const LEFT_ALONE = 'A share that is switched off is not looked at, because that would mount it.'

/** Alerts that are about the state of a repository's storage, and are opened and resolved by looks alone. */
export const storageAlertKinds = [
  'storage_warning',
  'storage_critical',
  'repository_offline',
  'repository_read_only',
] as const satisfies readonly AlertKind[]
export type StorageAlertKind = (typeof storageAlertKinds)[number]

/** How the repository stood before the look. */
export interface EarlierHealth {
  /** New backups are kept away from it. */
  stopped: boolean
  /** Alerts of it that are not resolved. */
  alerts: ReadonlySet<AlertKind>
}

export interface HealthVerdict {
  health: HealthState
  /** For people; `null` when all is well. */
  message: string | null
  /** Whether new backups are to be kept away. What an administrator switched off is another matter. */
  stopped: boolean
  /** To be open from now on; of the other kinds, those in {@link unknown} stay as they are, and the rest is over. */
  open: { kind: StorageAlertKind; severity: AlertSeverity; message: string; details: JsonObject }[]
  /** What the look could not tell. */
  unknown: StorageAlertKind[]
}

/**
 * Of the space that backups may use, how much is used, as `df` says it: what the file system keeps for root counts as neither used nor free.
 * In per cent with one decimal, never rounded up, so that what is shown and what is compared with a threshold agree. 0 where nothing is counted.
 */
export function usedPercentage({ usedBytes, availableBytes }: Pick<StorageInfo, 'usedBytes' | 'availableBytes'>): number {
  return partInPercent(usedBytes, usedBytes + availableBytes)
}

/** The same of inodes; 0 where the file system does not count them. */
export function usedInodesPercentage({ usedInodes, totalInodes }: Pick<StorageInfo, 'usedInodes' | 'totalInodes'>): number {
  return partInPercent(usedInodes, totalInodes)
}

function partInPercent(part: number, whole: number): number {
  if (whole <= 0) return 0
  return Math.min(100, Math.max(0, Math.floor((part * 1000) / whole) / 10))
}

export function judgeLook(look: StorageLook, earlier: EarlierHealth, thresholds: Thresholds): HealthVerdict {
  if (!look.reached) return offline(look, earlier)
  const fullness = judgeFullness(look.storage, earlier, thresholds)
  const open = [judgeWriting(look.storage, earlier, fullness.level), fullness.alert].filter((alert) => alert !== undefined)
  const health = open.some(({ severity }) => severity === 'critical') ? 'critical' : fullness.level
  const message = open.map((alert) => alert.message).join(' ') || null
  return { health, message, stopped: health === 'critical', open, unknown: [] }
}

/** How full it was, and whether it took files, is what it was: nobody can tell. */
function offline({ code, message }: StorageLook & { reached: false }, { stopped }: EarlierHealth): HealthVerdict {
  const details = { error_code: code }
  return {
    health: 'offline',
    message,
    stopped,
    open: [{ kind: 'repository_offline', severity: 'critical', message, details }],
    unknown: ['storage_warning', 'storage_critical', 'repository_read_only'],
  }
}

type OpenAlert = HealthVerdict['open'][number]
type FullnessLevel = 'healthy' | 'warning' | 'critical'

/** Once critical it stays so until it is below the lower threshold: a repository at 95 % would otherwise stop and go on with every backup. */
function judgeFullness(
  storage: StorageInfo,
  earlier: EarlierHealth,
  { warningPercent, criticalPercent }: Thresholds,
): { level: FullnessLevel; alert?: OpenAlert } {
  const [space, inodes] = [usedPercentage(storage), usedInodesPercentage(storage)]
  const fullest = Math.max(space, inodes)
  const details = { used_percentage: space, used_inodes_percentage: inodes, available_bytes: storage.availableBytes }
  const found = `${space >= inodes ? `${space} % of the space` : `${inodes} % of the inodes`} is used`
  if (fullest >= criticalPercent || (fullest >= warningPercent && wasStoppedForFullness(earlier))) {
    const message = `${found}. It takes no new backups until less than ${warningPercent} % is used: delete backups, or add space.`
    return { level: 'critical', alert: { kind: 'storage_critical', severity: 'critical', message, details } }
  }
  if (fullest < warningPercent) return { level: 'healthy' }
  const message = `${found}. From ${criticalPercent} % on it takes no new backups: delete backups, or add space.`
  return { level: 'warning', alert: { kind: 'storage_warning', severity: 'warning', message, details } }
}

/** Stopped only because it took no files, it goes on as soon as it takes them again, however near to full it is. */
function wasStoppedForFullness({ stopped, alerts }: EarlierHealth): boolean {
  return stopped && (alerts.has('storage_critical') || !alerts.has('repository_read_only'))
}

/** Room for the file that a look writes, and for what a file system needs beside it. */
const ROOM_FOR_A_FILE_BYTES = 1024 * 1024

/** A disk without a free block or inode takes no files either; whether it is read-only besides cannot be seen then. */
function judgeWriting(storage: StorageInfo, { alerts }: EarlierHealth, level: FullnessLevel): OpenAlert | undefined {
  if (storage.writable) return undefined
  const noRoom =
    storage.availableBytes < ROOM_FOR_A_FILE_BYTES || (storage.totalInodes > 0 && storage.usedInodes >= storage.totalInodes)
  if (noRoom && level === 'critical' && !alerts.has('repository_read_only')) return undefined
  const message =
    'It can be read but takes no files: it is mounted read-only, its owner forbids it, or a quota is used up. New backups are refused until it does.'
  return { kind: 'repository_read_only', severity: 'critical', message, details: {} }
}
