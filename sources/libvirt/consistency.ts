/** What the outcome of a freeze means for a backup. Pure. */
import type { BackupWarning, Consistency } from '../../domain/backup.ts'
import type { DomainContext } from './domain-context.ts'
import type { BeginScript, FreezeOutcome } from './freeze.ts'

/**
 * Whether to ask the guest's agent, and if not, why. A domain without an agent's channel was set up so; a channel that nobody has opened
 * has no agent behind it, and asking would only cost time.
 */
export function freezeOf({ domain, state }: Pick<DomainContext, 'domain' | 'state'>): BeginScript['freeze'] {
  if (!domain.hasGuestAgent) return 'no-agent'
  if (state.power === 'paused') return 'paused'
  return domain.guestAgentState === 'disconnected' ? 'disconnected' : true
}

/**
 * `application` would need proof that the guest's own freeze hooks ran and went well; QEMU's agent runs them but does not tell, so that
 * `filesystem` is the most that is claimed.
 */
export function consistencyOf(outcome: FreezeOutcome): { consistency: Consistency; consistencyReason: string } {
  return { consistency: outcome === 'frozen' ? 'filesystem' : 'crash', consistencyReason: reasons[outcome] }
}

/** A VM that was never set up to be asked gives no warning: that is how it always is. */
export function freezeWarnings(outcome: FreezeOutcome, thawed: boolean): BackupWarning[] {
  const warnings: BackupWarning[] = []
  if (outcome !== 'frozen' && outcome !== 'no-agent') {
    const message = `${reasons[outcome]} The disks are as after a power failure. ${advice[outcome]}`
    warnings.push({ code: 'consistency_reduced', disk: null, message })
  }
  if (!thawed) {
    const message =
      'The guest agent did not confirm that its file systems go on: thawing is tried again for some minutes. If the guest hangs, run "virsh domfsthaw".'
    warnings.push({ code: 'consistency_reduced', disk: null, message })
  }
  return warnings
}

const reasons: Record<FreezeOutcome, string> = {
  frozen: 'The guest agent froze all file systems at the instant of the snapshot.',
  'no-agent': 'The VM has no channel for a guest agent, so nobody could be asked to settle the file systems.',
  disconnected: 'The VM has a channel for a guest agent, but no agent is connected to it.',
  paused: 'The VM is paused, so its guest agent cannot settle the file systems.',
  refused: 'The guest agent refused to freeze the file systems.',
  silent: 'The guest agent did not answer in time.',
}

const advice: Record<Exclude<FreezeOutcome, 'frozen' | 'no-agent'>, string> = {
  disconnected: 'Install and start qemu-guest-agent in the guest.',
  paused: 'Resume the VM.',
  refused: 'See the log of qemu-guest-agent in the guest.',
  silent: 'See whether qemu-guest-agent hangs in the guest.',
}
