/** Which queue a step waits on. Host queues have stable names, so what is queued survives a mover's restart. */

/** All workflows, and short steps that need only the catalog. */
export const CONTROL_QUEUE = 'control'

/** Short steps, verification and restores on one data host. */
export function hostQueue(hostId: string): string {
  return `host.${hostId}`
}

/** Looks at repositories: short, and never behind work that takes long. */
export function lookQueue(hostId: string): string {
  return `looks.${hostId}`
}

/** Disk transfers into one repository; its worker's slots are the repository's limit of parallel transfers. */
export function transferQueue(hostId: string, repositoryId: string): string {
  return `transfer.${hostId}.${repositoryId}`
}

/** The holding of restore mounts; its worker's slots are as many as the host may hold. */
export function mountQueue(hostId: string): string {
  return `mounts.${hostId}`
}
