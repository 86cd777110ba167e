import { expect, it } from 'vitest'
import { HoldfastError } from './errors.ts'
import { fromPortable, toPortable } from './portable-error.ts'

it('brings an error of ours through', () => {
  const cause = new TypeError('below')
  const error = new HoldfastError('DISK_READ_FAILED', 'unreadable', { details: { offset: 7 }, retryable: false, cause })
  const back = fromPortable(structuredClone(toPortable(error, 'A process')))
  expect(back).toBeInstanceOf(HoldfastError)
  expect(back).toMatchObject({ code: 'DISK_READ_FAILED', message: 'unreadable', details: { offset: 7 }, retryable: false })
  expect(back.cause).toBe('TypeError: below')
})

it('says whose mistake anything else is', () => {
  const back = fromPortable(toPortable(new RangeError('too far'), 'A process'))
  expect(back).toMatchObject({ code: 'INTERNAL', message: 'A process failed: RangeError: too far', retryable: false })
  expect(back.cause).toContain('portable-error.test.ts')
})

it('takes a code that it does not know for INTERNAL', () => {
  expect(fromPortable({ code: 'NEWER', message: 'm', details: {}, retryable: true, cause: null })).toMatchObject({
    code: 'INTERNAL',
    retryable: true,
  })
})
