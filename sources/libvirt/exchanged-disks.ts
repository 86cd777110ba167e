/**
 * Whether a disk is still the one that a checkpoint was made of. All disks of a VM carry bitmaps of the same name: where two were exchanged, or
 * one was taken out and another moved up to its target, the bitmap that is found there tells what changed on another disk.
 */
import type { Tracking } from '../../domain/chain.ts'
import { askCheckpoint } from './checkpoints.ts'
import type { DomainContext } from './domain-context.ts'
import { child, children, describeDomain, parseXml } from './domain-xml.ts'

interface Options {
  signal?: AbortSignal | undefined
}

/** By target, of the included disks that lie elsewhere than at their checkpoint. An overlay of a snapshot that was taken since is the same disk. */
export async function exchangedDisks(
  context: DomainContext,
  changeIds: Record<string, string | null>,
  options: Options,
): Promise<Map<string, Tracking>> {
  const exchanged = new Map<string, Tracking>()
  const pathsAt = new Map<string, Map<string, string | null>>()
  const suspected: { target: string; path: string; before: string }[] = []
  for (const { target, path } of context.included) {
    const changeId = changeIds[target] ?? null
    if (changeId === null) continue
    const paths = pathsAt.get(changeId) ?? (await pathsAtCheckpoint(context, changeId, options))
    pathsAt.set(changeId, paths)
    const before = paths.get(target) ?? null
    if (before !== null && before !== path) suspected.push({ target, path, before })
  }
  if (suspected.length === 0) return exchanged
  const chains = await chainsOf(context, options)
  for (const { target, path, before } of suspected) {
    if (chains.get(target)?.has(before)) continue
    exchanged.set(target, { state: 'untracked', detail: `its image is "${path}" now and was "${before}" at the parent` })
  }
  return exchanged
}

/** libvirt keeps with each checkpoint what the domain was like. Empty when it does not know the checkpoint. */
async function pathsAtCheckpoint(context: DomainContext, name: string, options: Options): Promise<Map<string, string | null>> {
  const xml = await askCheckpoint(context, name, [], options)
  return new Map(xml === null ? [] : describeDomain(xml).disks.map(({ target, path }) => [target, path]))
}

/** Of a running domain, the files below each disk's; libvirt knows none of a shut-off one. */
async function chainsOf({ connection, uuid }: DomainContext, options: Options): Promise<Map<string, Set<string>>> {
  const root = parseXml(await connection.ask(['dumpxml', uuid], options)).documentElement
  return new Map(
    children(child(root, 'devices'), 'disk').map((disk) => {
      const files = new Set<string>()
      for (let layer = child(disk, 'backingStore'); layer; layer = child(layer, 'backingStore')) {
        const source = child(layer, 'source')
        files.add(source?.getAttribute('file') || source?.getAttribute('dev') || '')
      }
      return [child(disk, 'target')?.getAttribute('dev') ?? '', files]
    }),
  )
}
