/** How long published backups must stay as they are, and who sees to it. */

export const immutabilityMethods = ['linux_chattr'] as const
export type ImmutabilityMethod = (typeof immutabilityMethods)[number]

/** What an administrator asked for. */
export interface ImmutabilitySettings {
  method: ImmutabilityMethod
  /** A published backup is locked for so long. */
  retentionPeriodDays: number
}

/** What was really tried in the repository's place, and what came of it. `none` comes with the reason. */
export interface Enforcement {
  enforcedBy: 'chattr' | 'none'
  reason: string | null
}

/** A lock that should be there and was not. */
export interface BrokenLock {
  backupId: string
  /** In words. */
  missing: string[]
  /** Whether all of it is there again. */
  relocked: boolean
}

/** What a look at the locks of a repository found. */
export interface Attestation {
  /** Backups that should be locked. */
  checked: number
  broken: BrokenLock[]
}

const DAY_MS = 24 * 60 * 60 * 1000

/** When the lock of a backup published at `publishedAt` ends. */
export function lockEnd(publishedAt: Date, { retentionPeriodDays }: Pick<ImmutabilitySettings, 'retentionPeriodDays'>): Date {
  return new Date(publishedAt.getTime() + retentionPeriodDays * DAY_MS)
}

/** A repository's rules, as its row says. */
export interface RetentionRules {
  isImmutable: boolean
  retentionPeriodDays: number | null
  minRetentionDays: number | null
}

/** A completed backup of one VM in one repository. */
export interface RetainedBackup {
  id: string
  parentBackupId: string | null
  publishedAt: Date
  /** As recorded. */
  lockedUntil: Date | null
}

/** For how long a new lock lasts, in days; `null` where nothing is locked. Never less than what is kept back anyway. */
export function lockDays({ isImmutable, retentionPeriodDays, minRetentionDays }: RetentionRules): number | null {
  return isImmutable ? Math.max(1, retentionPeriodDays ?? 0, minRetentionDays ?? 0) : null
}

/**
 * Until when each backup is to be locked, by id; those that need no lock now are left out. A backup is locked as long as any that cannot be
 * read without it. What was recorded stays: rules that became milder shorten nothing.
 */
export function lockEnds(backups: readonly RetainedBackup[], rules: RetentionRules, now: Date): Map<string, Date> {
  const byId = new Map(backups.map((backup) => [backup.id, backup]))
  const ends = new Map<string, Date>()
  for (const backup of backups) {
    const end = ownEnd(backup, rules)
    if (end === null || end <= now) continue
    // A chain's own length bounds the walk: a loop in the data must not become one here.
    let ancestor: RetainedBackup | undefined = backup
    for (let steps = 0; ancestor && steps <= backups.length; steps++) {
      const other = ends.get(ancestor.id)
      if (other === undefined || other < end) ends.set(ancestor.id, end)
      ancestor = ancestor.parentBackupId === null ? undefined : byId.get(ancestor.parentBackupId)
    }
  }
  return ends
}

function ownEnd(
  { publishedAt, lockedUntil }: Pick<RetainedBackup, 'publishedAt' | 'lockedUntil'>,
  rules: RetentionRules,
): Date | null {
  const days = lockDays(rules)
  const byRule = days === null ? null : lockEnd(publishedAt, { retentionPeriodDays: days })
  return latest(byRule, lockedUntil)
}

/**
 * Until when a completed backup may not be deleted, by anybody; `null` when it may. The latest counts: its lock, the lock that it should have,
 * the least age.
 */
export function retainedUntil(
  backup: Pick<RetainedBackup, 'publishedAt' | 'lockedUntil'>,
  rules: RetentionRules,
  now: Date,
): Date | null {
  const { minRetentionDays } = rules
  const leastAge = minRetentionDays === null ? null : lockEnd(backup.publishedAt, { retentionPeriodDays: minRetentionDays })
  const until = latest(ownEnd(backup, rules), leastAge)
  return until !== null && until > now ? until : null
}

function latest(one: Date | null, other: Date | null): Date | null {
  if (one === null || other === null) return one ?? other
  return one > other ? one : other
}
