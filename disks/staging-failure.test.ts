import { mkdir, writeFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { failureOf } from '../test/failure.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { whileStaging } from './staging-failure.ts'

it('calls a full file system insufficient storage', async () => {
  // Every write to /dev/full fails with ENOSPC.
  const error = await failureOf(whileStaging(3, () => writeFile('/dev/full', 'x')))
  expect(error).toMatchObject({ code: 'INSUFFICIENT_STORAGE', retryable: false, details: { disk: 3 }, cause: { code: 'ENOSPC' } })
})

it('calls a used-up quota so, too, for which the run time has no name', async () => {
  const cause = Object.assign(new Error('Unknown system error -122'), {
    errno: -122,
    code: 'Unknown system error -122',
    syscall: 'write',
  })
  expect(await failureOf(whileStaging(1, () => Promise.reject(cause)))).toMatchObject({ code: 'INSUFFICIENT_STORAGE', cause })
})

it('hears it from programs too', async () => {
  const failed = new HoldfastError('TOOL_FAILED', 'qemu-img ended with exit code 1: could not write: No space left on device')
  expect(await failureOf(whileStaging(0, () => Promise.reject(failed)))).toMatchObject({
    code: 'INSUFFICIENT_STORAGE',
    cause: failed,
  })
})

it('takes other errors of the file system for passing trouble', async () => {
  const folder = await temporaryFolder()
  expect(await failureOf(whileStaging(0, () => mkdir(folder)))).toMatchObject({ code: 'DISK_WRITE_FAILED', retryable: true })
})

it('lets everything else pass', async () => {
  const failed = new HoldfastError('SOURCE_CHANGED', 'the source changed')
  await expect(whileStaging(0, () => Promise.reject(failed))).rejects.toBe(failed)
  expect(await whileStaging(0, () => Promise.resolve(7))).toBe(7)
})
