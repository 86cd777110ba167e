import { expect, test } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import { unlessTooOften } from './source-patience.ts'

test('an error that may pass is lasting from the tenth attempt on, in its own words and with its details', () => {
  const error = new HoldfastError('SOURCE_UNAVAILABLE', 'libvirt does not answer.', { details: { uri: 'qemu:///system' } })
  expect(unlessTooOften(error, 9)).toBe(error)
  expect(unlessTooOften(error, 10)).toMatchObject({
    code: 'SOURCE_UNAVAILABLE',
    message: 'libvirt does not answer. Given up after 10 attempts.',
    details: { uri: 'qemu:///system', attempts: 10 },
    retryable: false,
    cause: error,
  })
})

test('a lasting error, and one that is not ours, stay what they are', () => {
  for (const error of [new HoldfastError('SOURCE_NOT_FOUND', 'gone'), new TypeError('bug')]) {
    expect(unlessTooOften(error, 99)).toBe(error)
  }
})
