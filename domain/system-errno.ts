/** Names of failed system calls, as people and tables know them. */

/** Those that shares and quotas give, and libuv has no names for. */
const unnamed: Readonly<Record<number, string>> = { [-116]: 'ESTALE', [-121]: 'EREMOTEIO', [-122]: 'EDQUOT' }

/** `ENOENT` and the like; `undefined` for anything but an error that carries a code. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  const name = 'errno' in error && typeof error.errno === 'number' ? unnamed[error.errno] : undefined
  return name ?? ('code' in error && typeof error.code === 'string' ? error.code : undefined)
}
