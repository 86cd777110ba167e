import { expect, test } from 'vitest'
import { nextProcessor, processorsIn } from './processors.ts'

test('the list of a process’s processors is read', () => {
  expect(processorsIn('Name:\tnode\nCpus_allowed_list:\t0-2,5\nMems_allowed:\t1\n')).toEqual([0, 1, 2, 5])
  expect(processorsIn('Cpus_allowed_list:\t3\n')).toEqual([3])
  expect(processorsIn('nothing of it')).toEqual([0])
})

test('readers take turns at the processors that this process may use', async () => {
  const turns = await Promise.all(Array.from({ length: 64 }, () => nextProcessor()))
  const counts = Object.values(Object.groupBy(turns, String)).map((same) => same!.length)
  expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
})
