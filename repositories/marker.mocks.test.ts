import { link, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { initializeRoot, readMarkerId } from './marker.ts'
import { MARKER_FILE } from './paths.ts'

// Some shares have no hard links; the file system of this machine has.
vi.mock(import('node:fs/promises'), async (original) => ({ ...(await original()), link: vi.fn<() => Promise<void>>() }))
afterEach(() => vi.mocked(link).mockReset())

const noLinks = (): never => {
  throw Object.assign(new Error('no hard links here'), { code: 'EOPNOTSUPP' })
}

test('without hard links a folder becomes a repository all the same', async () => {
  const root = await temporaryFolder()
  vi.mocked(link).mockImplementation(noLinks)
  await initializeRoot(root, 'repo-a')
  expect(await readMarkerId(root)).toBe('repo-a')
  expect(await readdir(root)).toEqual([MARKER_FILE, 'vms'])
})

test('without hard links, too, a marker never replaces one that another process made a moment before', async () => {
  const root = await temporaryFolder()
  const others = JSON.stringify({ id: 'repo-other', format_version: 1, created_at: '2026-01-01T00:00:00.000Z' })
  vi.mocked(link).mockImplementation(async () => {
    await writeFile(join(root, MARKER_FILE), others)
    noLinks()
  })
  const refused = await failureOf(initializeRoot(root, 'repo-a'))
  expect(refused).toMatchObject({ code: 'REPO_INVALID', details: { found_repository_id: 'repo-other' } })
  expect(await readFile(join(root, MARKER_FILE), 'utf8')).toBe(others)
})
