/** What people are told of what cannot be read. */
import type { Found } from './probe.ts'

export const OTHER_DRIVER = 'the driver "user-mode-linux" reads it'

/** By blkid's types. */
export const encryptions: ReadonlyMap<string, string> = new Map([
  ['crypto_LUKS', 'LUKS'],
  ['BitLocker', 'BitLocker'],
  ['cs_fvault2', 'FileVault'],
])

export const members: ReadonlyMap<string, string> = new Map([
  ['linux_raid_member', `part of a RAID array, which this driver does not read: ${OTHER_DRIVER}`],
  ['LVM2_member', `part of an LVM volume group, which this driver does not read: ${OTHER_DRIVER}`],
  ['LVM1_member', 'part of a volume group of LVM 1, which is not read'],
])

/** By the types of partitions, where nothing is known of the content. */
const purposes = new Map([
  ['e3c9e316-0b5c-4db8-817d-f92df00215ae', 'reserved by Windows: it holds no files'],
  ['21686148-6449-6e6f-744e-656564454649', 'holds a boot loader and no files'],
  ['5808c8aa-7e8f-42e0-85d2-e1e90434cfb3', 'part of a dynamic disk of Windows, which is not read'],
  ['af9b60a0-1431-4f62-bc68-3311714a69ad', 'part of a dynamic disk of Windows, which is not read'],
  ['e75caf8f-f680-4cee-afa3-b001e56efc2d', 'part of a storage pool of Windows, which is not read'],
  ['0x42', 'part of a dynamic disk of Windows, which is not read'],
])

/** `partitionType`: empty for a whole disk. `beginning`: its first bytes. */
export function noteOfUnknown({ type, hasTable }: Found, partitionType: string, beginning: Buffer): string {
  const purpose = purposes.get(partitionType)
  if (purpose !== undefined) return purpose
  if (type !== '') return `"${type}", which this driver does not read`
  if (hasTable) return 'holds a partition table without partitions that can be read'
  return beginning.every((byte) => byte === 0) ? 'nothing is written at its beginning' : 'no file system that is known here'
}
