/** One bundle of the workflows for a whole run of the tests: who needs it first builds it, which takes a processor several seconds. */
import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { inject } from 'vitest'

/** Holdfast's processes with this home find, and leave, their caches in the run's. For tests that do not look into it. Before the processes start. */
export async function shareCaches(home: string): Promise<void> {
  await mkdir(home, { recursive: true })
  await symlink(inject('cacheFolder'), join(home, 'cache'))
}
