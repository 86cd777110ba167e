import { expect, it, vi } from 'vitest'
import { mountAtStart } from './mount-at-start.ts'
import type { MountsAtStart } from './mount-at-start.ts'

it('fails with nothing that it meets, and says it', async () => {
  const warn = vi.fn<(about: object, message?: string) => void>()
  const broken: unknown = {
    selectFrom: () => {
      throw new Error('the catalog is away')
    },
  }
  const start = {
    catalog: broken,
    hostId: 'host-a',
    repositoryIds: ['repo-a'],
    repositories: { mount: () => Promise.reject(new Error('no server')) },
    desk: { releaseAllBut: () => Promise.reject(new Error('no folder')) },
    logger: { info: vi.fn<() => void>(), warn },
  } as MountsAtStart
  await expect(mountAtStart(start)).resolves.toBeUndefined()
  expect(warn).toHaveBeenCalledTimes(2)
})
