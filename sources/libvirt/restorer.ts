/** Makes domains of restored disks. The disks must lie on this machine, so the hypervisor has to be here. */
import { HoldfastError } from '../../domain/errors.ts'
import type { PlannedDisk, RestoredVm, VmRestore, VmRestoreDisk, VmRestorer } from '../source.ts'
import type { LibvirtConnection } from './connection.ts'
import { stateOf } from './domain-power.ts'
import type { HypervisorHost } from './host.ts'
import { RestoreInPlace } from './restore-in-place.ts'
import { RestoreNew } from './restore-new.ts'

type Options = { signal?: AbortSignal }

export class LibvirtRestorer implements VmRestorer {
  readonly #connection: LibvirtConnection
  readonly #modes: Record<VmRestore['target']['mode'], Omit<VmRestorer, 'start'>>

  /** `runFolder`: of this process; definitions pass through it. */
  constructor(place: { connection: LibvirtConnection; host: HypervisorHost; runFolder: string }) {
    this.#connection = place.connection
    this.#modes = { new: new RestoreNew(place), 'in-place': new RestoreInPlace(place) }
  }

  async plan(restore: VmRestore & { disks: VmRestoreDisk[] }, options: Options): Promise<PlannedDisk[]> {
    const { uri } = this.#connection
    if (uri.transport !== 'local') {
      throw new HoldfastError(
        'RESTORE_TARGET_INVALID',
        `The hypervisor of ${uri.text} is on another machine, where disks cannot be written yet: restore the disks to files, and copy them there.`,
      )
    }
    return this.#modes[restore.target.mode].plan(restore, options)
  }

  complete(restore: VmRestore & { disks: PlannedDisk[] }, options: Options): Promise<RestoredVm> {
    return this.#modes[restore.target.mode].complete(restore, options)
  }

  discard(restore: VmRestore & { disks: PlannedDisk[] }, options: Options): ReturnType<VmRestorer['discard']> {
    return this.#modes[restore.target.mode].discard(restore, options)
  }

  async start(externalId: string, options: Options): Promise<void> {
    if ((await stateOf(this.#connection, externalId, options)) !== 'shut off') return
    await this.#connection.ask(['start', externalId], options)
  }
}
