import { expect, it } from 'vitest'
import { BlockSet } from './block-set.ts'

it('knows what is in it, and in which runs', () => {
  const blocks = new BlockSet(20)
  for (const index of [3, 4, 7, 8, 9, 19]) blocks.add(index)
  expect(Array.from({ length: 20 }, (_, index) => index).filter((index) => blocks.has(index))).toEqual([3, 4, 7, 8, 9, 19])
  expect([...blocks.runs(2, 7)]).toEqual([
    { firstIndex: 2, count: 1, inSet: false },
    { firstIndex: 3, count: 2, inSet: true },
    { firstIndex: 5, count: 2, inSet: false },
    { firstIndex: 7, count: 2, inSet: true },
  ])
  expect([...new BlockSet(0).runs(0, 3)]).toEqual([{ firstIndex: 0, count: 3, inSet: false }])
  expect([...blocks.runs(5, 0)]).toEqual([])
})
