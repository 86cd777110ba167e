/**
 * For `close` of what must not be left behind: calls share one run of `end`, and when that failed the next call runs it again. What holds a device may have let go
 * of it by then. `end` must be able to run twice.
 */
export function closeOnce(end: () => Promise<void>): () => Promise<void> {
  let closing: Promise<void> | null = null
  return () => {
    closing ??= end().catch((error: unknown) => {
      closing = null
      throw error
    })
    return closing
  }
}
