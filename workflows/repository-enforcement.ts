/** Whether a repository's place really keeps what is locked there. */
import type { Enforcement, ImmutabilitySettings } from '../domain/immutability.ts'
import type { RepositoryRequest } from '../temporal/operations.ts'
import type { interactiveHostSteps } from './activity-options.ts'
import { asApplicationFailure } from './failure.ts'

/** Tried where immutability is asked for; `null` elsewhere. `IMMUTABILITY_UNSUPPORTED`: what is not enforced is not promised. */
export async function requireEnforcement(
  host: Pick<ReturnType<typeof interactiveHostSteps>, 'probeImmutability'>,
  repository: RepositoryRequest,
  immutability: ImmutabilitySettings | null | undefined,
): Promise<Enforcement | null> {
  if (!immutability) return null
  const enforcement = await host.probeImmutability(repository)
  if (enforcement.enforcedBy !== 'none') return enforcement
  const reason = enforcement.reason ?? 'the reason is not known'
  throw asApplicationFailure({
    code: 'IMMUTABILITY_UNSUPPORTED',
    message: `Backups could not be kept from being changed there: ${reason}. Use a place that can, or register it without immutability.`,
    details: { enforced_by: 'none', reason },
  })
}
