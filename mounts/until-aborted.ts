/** What `running` gives, or the reason of a signal as soon as one aborts; `running` then goes on, and nobody hears how it ends. */
export function untilAborted<T>(running: Promise<T>, signals: readonly AbortSignal[]): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = (): void => reject(signals.find((signal) => signal.aborted)?.reason)
  for (const signal of signals) signal.addEventListener('abort', abort, { once: true })
  if (signals.some((signal) => signal.aborted)) abort()
  return Promise.race([running, aborted]).finally(() => {
    for (const signal of signals) signal.removeEventListener('abort', abort)
  })
}
