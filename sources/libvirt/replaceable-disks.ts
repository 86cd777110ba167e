/** Which files a restore over a domain would replace, and whether anything else than that domain needs them. */
import { lstat, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { errnoOf, onTarget } from '../../disks/restore-files.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { VmRestoreDisk } from '../source.ts'
import { listDomains, type DomainPlace } from './domain-context.ts'
import { explicitBackingTargets } from './domain-xml-edit.ts'
import { describeDomain, type DomainDisk } from './domain-xml.ts'

type Options = { signal?: AbortSignal | undefined }

export interface ReplaceableDisk extends VmRestoreDisk {
  /** No links in it. */
  path: string
  format: 'raw' | 'qcow2'
}

/** The domain's files for these disks. `RESTORE_TARGET_INVALID` with the reason when one of them must not be replaced. */
export async function requireReplaceable(
  place: DomainPlace,
  vm: { uuid: string; name: string },
  disks: readonly VmRestoreDisk[],
  options: Options,
): Promise<ReplaceableDisk[]> {
  const { connection } = place
  const xml = await connection.ask(['dumpxml', vm.uuid, '--inactive'], options)
  await refuseSavedState(place, vm, options)
  const backed = new Set(explicitBackingTargets(xml))
  const domain = describeDomain(xml)
  const found: ReplaceableDisk[] = []
  for (const disk of disks) {
    const original = domain.disks.find(({ target }) => target === disk.key)
    const reason = reasonAgainst(original, backed)
    if (reason !== null) throw refusal(disk.key, reason)
    const { path, format } = original!
    const file = { ...disk, path: await realFile(path!), format: format === 'raw' ? ('raw' as const) : ('qcow2' as const) }
    await refuseFile(place, file, options)
    found.push(file)
  }
  await refuseOtherUsers(place, vm.uuid, found, options)
  return found
}

function reasonAgainst(disk: DomainDisk | undefined, backed: ReadonlySet<string>): string | null {
  if (!disk) return 'the VM has no such disk any more'
  if (disk.device !== 'disk') return `it is a ${disk.device} now`
  if (disk.sourceType === 'block') return 'it is a block device, which cannot be put aside while its successor is written'
  if (disk.sourceType !== 'file' || disk.path === null) return `it lies on a source of type "${disk.sourceType}", not in a file`
  if (disk.format !== 'qcow2' && disk.format !== 'raw') return `its format is "${disk.format}"; qcow2 and raw can be written`
  if (disk.readOnly) return 'it is read-only'
  if (disk.shareable) return 'other VMs write to it too'
  if (backed.has(disk.target))
    return 'the definition of the VM names what lies below it (backingStore), which would shine through'
  return null
}

/** A guest that goes on from its saved memory would not know its disks again; snapshots lie in the files that go. */
async function refuseSavedState(
  { connection }: DomainPlace,
  { uuid, name }: { uuid: string; name: string },
  options: Options,
): Promise<void> {
  const info = await connection.ask(['dominfo', uuid], options)
  if (/^Managed save:\s*yes/m.test(info)) {
    throw new HoldfastError(
      'RESTORE_TARGET_INVALID',
      `The VM "${name}" has saved memory, which would go on with disks it does not know. Start and shut it down, or remove that (virsh managedsave-remove).`,
    )
  }
  const snapshots = (await connection.ask(['snapshot-list', uuid, '--name'], options)).split('\n').filter((line) => line !== '')
  if (snapshots.length === 0) return
  throw new HoldfastError(
    'RESTORE_TARGET_INVALID',
    `The VM "${name}" has snapshots (${snapshots.slice(0, 5).join(', ')}) that need the disks as they are. Delete the snapshots, or restore as a new VM.`,
    { details: { snapshots: snapshots.slice(0, 100) } },
  )
}

/** A link stays, and what it leads to is replaced. A file that is gone can be restored, too. */
async function realFile(path: string): Promise<string> {
  return onTarget(path, async () => {
    try {
      return await realpath(path)
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
      const folder = await realpath(dirname(path)).catch(() => dirname(path))
      return join(folder, basename(path))
    }
  })
}

const imageReport = z.object({ snapshots: z.array(z.unknown()).optional() })

async function refuseFile({ host }: DomainPlace, { key, path, format }: ReplaceableDisk, options: Options): Promise<void> {
  const stats = await onTarget(path, () =>
    lstat(path).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return null
      throw error
    }),
  )
  if (!stats) return
  if (!stats.isFile()) throw refusal(key, `"${path}" is not a file`)
  if (stats.nlink > 1) throw refusal(key, `"${path}" has other names (hard links), which would keep the old content`)
  const uid = process.getuid?.() ?? 0
  if (uid !== 0 && stats.uid !== uid) throw refusal(key, `"${path}" belongs to another user, and only root can give a file away`)
  if (format !== 'qcow2') return
  // A file that is no image any more is one more reason to restore it.
  const report = await host
    .qemuImg(['info', '--output=json', '-U', '-f', 'qcow2', path], { timeoutMs: 60_000, ...options })
    .catch(() => '{}')
  const snapshots = imageReport.safeParse(JSON.parse(report)).data?.snapshots ?? []
  if (snapshots.length > 0)
    throw refusal(key, `"${path}" holds ${snapshots.length} internal snapshots, which would be lost: delete them first`)
}

/** Another domain may have the same file, or build on it as its backing file. */
async function refuseOtherUsers(
  place: DomainPlace,
  uuid: string,
  disks: readonly ReplaceableDisk[],
  options: Options,
): Promise<void> {
  const others = (await listDomains(place.connection, options)).filter((other) => other !== uuid)
  for (const other of others) {
    // A domain that went away meanwhile uses nothing.
    const xml = await place.connection.ask(['dumpxml', other], options).catch(() => null)
    if (xml === null) continue
    const domain = describeDomain(xml)
    const used = await Promise.all(domain.disks.map((disk) => filesBelow(place, disk, options)))
    const disk = disks.find(({ path }) => used.flat().includes(path))
    if (disk) throw refusal(disk.key, `the VM "${domain.name}" uses "${disk.path}" too, directly or as a backing file`)
  }
}

const chainReport = z.array(z.object({ filename: z.string() }))

/** The disk's file and the files it builds on, without links; as far as can be told. */
async function filesBelow({ host }: DomainPlace, { path, format }: DomainDisk, options: Options): Promise<string[]> {
  if (path === null) return []
  const args = ['info', '--output=json', '-U', '--backing-chain', '-f', format, path]
  const report = format === 'qcow2' ? await host.qemuImg(args, { timeoutMs: 60_000, ...options }).catch(() => '[]') : '[]'
  const chain = chainReport.safeParse(JSON.parse(report)).data?.map(({ filename }) => filename) ?? []
  return Promise.all([path, ...chain].map((file) => realpath(file).catch(() => file)))
}

function refusal(key: string, reason: string): HoldfastError {
  return new HoldfastError(
    'RESTORE_TARGET_INVALID',
    `Disk ${key} cannot be overwritten: ${reason}. Restore as a new VM, or to a file.`,
    {
      details: { disk: key, reason },
    },
  )
}
