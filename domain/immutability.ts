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

const DAY_MS = 24 * 60 * 60 * 1000

/** When the lock of a backup published at `publishedAt` ends. */
export function lockEnd(publishedAt: Date, { retentionPeriodDays }: Pick<ImmutabilitySettings, 'retentionPeriodDays'>): Date {
  return new Date(publishedAt.getTime() + retentionPeriodDays * DAY_MS)
}
