/** `attest`: whether backups are locked as they should be. Changes nothing. */
import type { AttestAnswer, LockPlace, LockRequest } from '../domain/lock-protocol.ts'
import { missingFlags } from './flags.ts'
import type { Folder } from './folders.ts'
import { recordedEnd } from './records.ts'
import { filesOf, inBackup, inRepository } from './repository.ts'
import type { LockedRepository } from './repository.ts'

export function attest(request: LockRequest): Promise<AttestAnswer> {
  return inRepository(request, async (repository) => {
    const findings: AttestAnswer['findings'] = []
    for (const { until, ...place } of request.backups) {
      const missing = await inBackup(repository.root, place, (backup) => missingOf(repository, place, backup, new Date(until)))
      findings.push({ backupId: place.backupId, missing })
    }
    return { findings }
  })
}

async function missingOf(repository: LockedRepository, place: LockPlace, backup: Folder | null, until: Date): Promise<string[]> {
  if (backup === null) return ['the folder is gone']
  try {
    const missing = await missingFlags(backup, await filesOf(backup))
    const end = await recordedEnd(repository, place, backup)
    if (end === null) missing.push('no record says until when it is locked')
    else if (end < until) missing.push(`it is locked until ${end.toISOString()} only, not until ${until.toISOString()}`)
    return missing
  } catch (error) {
    // What cannot be looked at is not attested; the other backups are.
    return [error instanceof Error ? error.message : String(error)]
  }
}
