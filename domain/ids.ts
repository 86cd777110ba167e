/** How identifiers are formed. Callers bring the time and the randomness: nothing here reads a clock. */

const FOLDER_NAME_MAX = 64

/** A VM's name as a safe, readable path or id part: lower-case ASCII letters, digits and dashes; never empty. */
export function slug(name: string, lengthMax = FOLDER_NAME_MAX): string {
  const text = name
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, lengthMax)
    .replace(/-+$/, '')
  return text === '' ? 'vm' : text
}

/** `backup-<vm>-<YYYYMMDDThhmmssZ>-<random>`; sorts by time within a VM, at most 64 characters. `random`: 6 lower-case letters or digits. */
export function backupIdFor(vmName: string, at: Date, random: string): string {
  const stamp = `${at.toISOString().replace(/[-:]/g, '').slice(0, 15)}Z`
  return `backup-${slug(vmName, 30)}-${stamp}-${random}`
}

const BACKUP_ID = /^backup-[a-z0-9-]{1,40}-\d{8}T\d{6}Z-[a-z0-9]{6}$/

/** Whether `value` could be an id of {@link backupIdFor}; the guard before one becomes part of a path. */
export function isBackupId(value: string): boolean {
  return value.length <= 64 && BACKUP_ID.test(value)
}

/** `<vm name>--<short id>`: the VM's folder in a repository. The short id keeps two VMs of one name apart. */
export function vmFolderName(vmName: string, vmContextId: string): string {
  return `${slug(vmName)}--${vmContextId.slice(-8).toLowerCase()}`
}
