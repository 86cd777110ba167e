import { expect, test } from 'vitest'
import { containing } from './patterns.ts'

test('what a person types is found as it stands, never as a pattern', () => {
  expect(containing('web')).toBe('%web%')
  expect(containing('100%_\\')).toBe('%100\\%\\_\\\\%')
})
