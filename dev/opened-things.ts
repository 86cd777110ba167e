/** What has been opened, in order; closed in reverse. */
export class OpenedThings {
  readonly #closers: (() => Promise<unknown>)[] = []
  #closing: Promise<void> | undefined

  add(close: () => Promise<unknown>): void {
    this.#closers.push(close)
  }

  /** Idempotent. One failure does not keep the rest open; it is thrown at the end. */
  close(): Promise<void> {
    return (this.#closing ??= this.#closeAll())
  }

  async #closeAll(): Promise<void> {
    const failures: unknown[] = []
    for (const close of this.#closers.toReversed()) await close().catch((error: unknown) => failures.push(error))
    if (failures.length > 0) throw new AggregateError(failures, 'Stopping was not clean.')
  }
}
