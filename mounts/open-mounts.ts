/** The mounts that this process holds: activities open and close them, the file service reads from them. */
import { HoldfastError } from '../domain/errors.ts'
import type { RestoreMount } from './restore-mount.ts'

export class OpenMounts {
  readonly #mounts = new Map<string, RestoreMount>()
  readonly #opening = new Map<string, Promise<RestoreMount>>()
  readonly #most: number

  /** `most`: mounts at a time on this host. */
  constructor(most: number) {
    this.#most = most
  }

  /** The mount of this id, opened by `open` when there is none. Two callers at once share one. `MOUNT_LIMIT_REACHED`, and what `open` throws. */
  async open(mountId: string, open: () => Promise<RestoreMount>): Promise<RestoreMount> {
    const known = this.#mounts.get(mountId) ?? this.#opening.get(mountId)
    if (known) return known
    const taken = this.#mounts.size + this.#opening.size
    if (taken >= this.#most) throw limitReached(this.#most)
    const opening = open()
    this.#opening.set(mountId, opening)
    try {
      const mount = await opening
      this.#mounts.set(mountId, mount)
      void mount.failed.then(() => this.#forget(mountId, mount))
      return mount
    } finally {
      this.#opening.delete(mountId)
    }
  }

  /** Of all that are open here. */
  ids(): string[] {
    return [...this.#mounts.keys()]
  }

  /** `undefined` while it is not open here. */
  find(mountId: string): RestoreMount | undefined {
    return this.#mounts.get(mountId)
  }

  /** Waits until nothing of it is left. Nothing when it is not open. */
  async close(mountId: string): Promise<void> {
    await this.#opening.get(mountId)?.catch(() => undefined)
    const mount = this.#mounts.get(mountId)
    if (!mount) return
    await mount.close()
    this.#forget(mountId, mount)
  }

  async closeAll(): Promise<void> {
    const ids = new Set([...this.#mounts.keys(), ...this.#opening.keys()])
    await Promise.all([...ids].map((mountId) => this.close(mountId)))
  }

  #forget(mountId: string, mount: RestoreMount): void {
    if (this.#mounts.get(mountId) === mount) this.#mounts.delete(mountId)
  }
}

function limitReached(most: number): HoldfastError {
  return new HoldfastError(
    'MOUNT_LIMIT_REACHED',
    `This host holds ${most} restore mounts already, as many as it may. Unmount one of GET /restore/mounts, or raise HOLDFAST_MOUNTS_MAX.`,
    { details: { mounts_max: most } },
  )
}
