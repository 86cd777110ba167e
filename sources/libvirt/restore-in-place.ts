/** A restore over the disks of a domain that is shut off. Its definition stays as it is. */
import { describeDomain } from './domain-xml.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { PlannedDisk, RestoredVm, VmRestore, VmRestoreDisk, VmRestorer } from '../source.ts'
import type { LibvirtConnection } from './connection.ts'
import { parseDomainConfig } from './domain-context.ts'
import { notStopped } from './domain-power.ts'
import type { HypervisorHost } from './host.ts'
import { backupOfCheckpoint } from './names.ts'
import { checkFolder, removeFirstNames, stageOf, takePlaceOf, vanished, writePathOf } from './restored-files.ts'
import { requireReplaceable } from './replaceable-disks.ts'

type Options = { signal?: AbortSignal }

export class RestoreInPlace implements Omit<VmRestorer, 'start'> {
  readonly #connection: LibvirtConnection
  readonly #host: HypervisorHost

  constructor(place: { connection: LibvirtConnection; host: HypervisorHost }) {
    this.#connection = place.connection
    this.#host = place.host
  }

  async plan(restore: VmRestore & { disks: VmRestoreDisk[] }, options: Options): Promise<PlannedDisk[]> {
    const vm = vmOf(restore)
    const trouble = await notStopped(this.#connection, vm, options)
    if (trouble) throw trouble
    const originals = await requireReplaceable({ connection: this.#connection, host: this.#host }, vm, restore.disks, options)
    for (const { path } of originals) await checkFolder(path, restore.restoreId)
    return originals.map((disk) => ({ ...disk, writePath: writePathOf(disk.path, restore.restoreId) }))
  }

  async complete(restore: VmRestore & { disks: PlannedDisk[] }, options: Options): Promise<RestoredVm> {
    const vm = vmOf(restore)
    const { disks } = restore
    const stages = await Promise.all(disks.map((disk) => stageOf(disk)))
    const waiting = disks.filter((_, index) => stages[index] === 'written')
    let hasBegun = waiting.length < disks.length
    if (waiting.length > 0 && stages.includes('gone')) throw vanished(disks[stages.indexOf('gone')]!.writePath)
    const warnings: string[] = []
    if (waiting.length > 0) {
      await this.#requireStopped(vm, hasBegun, options)
      warnings.push(...(await this.#forgetCheckpoints(vm.uuid, options)))
    }
    for (const disk of waiting) {
      await this.#requireStopped(vm, hasBegun, options)
      await takePlaceOf(disk).catch((error: unknown) => {
        throw hasBegun ? onTheWay(vm.name, error) : error
      })
      hasBegun = true
    }
    await removeFirstNames(disks)
    return { externalId: vm.uuid, warnings: [...warnings, ...(await this.#othersOf(vm.uuid, disks, options))] }
  }

  async discard({ disks }: { disks: PlannedDisk[] }): ReturnType<VmRestorer['discard']> {
    const stages = await Promise.all(disks.map((disk) => stageOf(disk)))
    if (stages.includes('named')) return 'begun'
    await removeFirstNames(disks)
    return 'discarded'
  }

  async #requireStopped(vm: { uuid: string; name: string }, hasBegun: boolean, options: Options): Promise<void> {
    const trouble = await notStopped(this.#connection, vm, options)
    if (!trouble) return
    if (!hasBegun) throw trouble
    throw new HoldfastError(
      'SOURCE_BUSY',
      `The VM "${vm.name}" was started while its disks were being replaced: some are the backup's, some are not. Shut it down, and the restore finishes.`,
      { details: trouble.details, cause: trouble },
    )
  }

  /** The bitmaps behind them are in the files that go: what libvirt notes of them would be wrong, ours and others'. */
  async #forgetCheckpoints(uuid: string, options: Options): Promise<string[]> {
    const listed = await this.#connection.ask(['checkpoint-list', uuid, '--name', '--topological'], options)
    const names = listed.split('\n').filter((name) => name !== '')
    const warnings: string[] = []
    // Children first: a parent that goes early has to be written into each of them.
    for (const name of names.toReversed()) {
      try {
        await this.#connection.ask(['checkpoint-delete', uuid, name, '--metadata'], options)
      } catch (error) {
        if (!(error instanceof HoldfastError) || error.code !== 'TOOL_FAILED') throw error
        // The catalog's mark alone makes the next backup right; this must not keep a VM from being restored.
        warnings.push(`The checkpoint "${name}", which is worthless now, could not be removed: ${error.message}`)
      }
    }
    const foreign = names.filter((name) => backupOfCheckpoint(name) === null)
    if (foreign.length === 0) return warnings
    return [
      ...warnings,
      `Checkpoints of other programs went with the disks they were about, so those programs need a full backup: ${foreign.join(', ')}.`,
    ]
  }

  async #othersOf(uuid: string, disks: readonly PlannedDisk[], options: Options): Promise<string[]> {
    const restored = new Set(disks.map(({ key }) => key))
    const domain = describeDomain(await this.#connection.ask(['dumpxml', uuid, '--inactive'], options))
    const others = domain.disks.filter(({ device, target }) => device === 'disk' && !restored.has(target))
    return others.map(({ target }) => `Disk ${target} is not part of the backup and stays as it is.`)
  }
}

/** There is no way back any more: whatever keeps the rest from being replaced has to pass, or to be removed by a person. */
function onTheWay(vmName: string, error: unknown): unknown {
  if (!(error instanceof HoldfastError)) return error
  const { code, message, details } = error
  return new HoldfastError(
    code,
    `${message} Some disks of the VM "${vmName}" are the backup's already, some are not: do not start it. The restore is tried again.`,
    { details, cause: error, retryable: true },
  )
}

function vmOf({ target }: VmRestore): { uuid: string; name: string } {
  return { uuid: parseDomainConfig(target.config ?? {}).uuid, name: target.vmName }
}
