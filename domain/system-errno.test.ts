import { expect, it } from 'vitest'
import { errnoOf } from './system-errno.ts'

const failed = (errno: number, code: string) => Object.assign(new Error(code), { errno, code, syscall: 'write' })

it('names what the run time has no name for', () => {
  expect(errnoOf(failed(-122, 'Unknown system error -122'))).toBe('EDQUOT')
  expect(errnoOf(failed(-116, 'Unknown system error -116'))).toBe('ESTALE')
})

it('leaves other names as they are', () => {
  expect(errnoOf(failed(-28, 'ENOSPC'))).toBe('ENOSPC')
  expect(errnoOf(new Error('nothing of the system'))).toBeUndefined()
  expect(errnoOf('no error')).toBeUndefined()
})
