/** Which mount belongs to which disk: the same disk of the same backup always has the same, so that two who open it share one. */
import { v5 as uuid } from 'uuid'

/** Random, and never to be changed: ids of mounts are made below it (RFC 9562, version 5). */
const MOUNTS_NAMESPACE = '6f2f6e0a-59a5-4f5b-9a52-0d6f4e4f9b7c'

export function restoreMountId(backupId: string, diskIndex: number): string {
  return uuid(`${backupId}/disk-${diskIndex}`, MOUNTS_NAMESPACE)
}
