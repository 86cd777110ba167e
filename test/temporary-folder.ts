/** Folders that vanish with the test that made them. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** A fresh folder, removed when the running test ends, passed or failed. Short enough for unix sockets. */
export async function temporaryFolder(): Promise<string> {
  const folder = await createTemporaryFolder()
  onTestFinished(() => folder.remove())
  return folder.path
}

/** The same for `beforeAll`, which has no end of its own: call `remove` in `afterAll`. */
export async function createTemporaryFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-test-'))
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) }
}
