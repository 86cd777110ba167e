/** What the system said: `EADDRINUSE`, `ENOENT` …; undefined for errors of another kind. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}
