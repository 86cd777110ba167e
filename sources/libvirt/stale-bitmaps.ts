/** Bitmaps of ours that no checkpoint explains: after a crash of QEMU, on some of the disks. They cost space and forbid to grow the disk. */
import { z } from 'zod'
import { isSaying } from './backup-job.ts'
import type { DomainContext } from './domain-context.ts'

const namedNodes = z.object({
  return: z.array(
    z.object({ 'node-name': z.string(), 'dirty-bitmaps': z.array(z.object({ name: z.string().optional() })).default([]) }),
  ),
})

/** Removes the bitmaps of this name from the disks of a running domain. libvirt has no command for a bitmap without a checkpoint. */
export async function removeStaleBitmaps(
  { connection, uuid }: Pick<DomainContext, 'connection' | 'uuid'>,
  name: string,
  options: { signal?: AbortSignal | undefined },
): Promise<void> {
  const ask = async (execute: string, args: object): Promise<string> =>
    connection.ask(['qemu-monitor-command', uuid, JSON.stringify({ execute, arguments: args })], options)
  const { return: nodes } = namedNodes.parse(JSON.parse(await ask('query-named-block-nodes', { flat: true })))
  for (const node of nodes) {
    if (!node['dirty-bitmaps'].some((bitmap) => bitmap.name === name)) continue
    await ask('block-dirty-bitmap-remove', { node: node['node-name'], name }).catch((error: unknown) => {
      // Already gone, or in use after all: then it is not stale.
      if (!isSaying(error, /not found|busy|in use/i)) throw error
    })
  }
}
