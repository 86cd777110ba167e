import { expect, it } from 'vitest'
import { closeOnce } from './close-once.ts'

it('ends once, however often it is asked to', async () => {
  let ends = 0
  const close = closeOnce(async () => void ends++)
  await Promise.all([close(), close()])
  await close()
  expect(ends).toBe(1)
})

it('ends again after a failure, which all who wait hear of', async () => {
  let ends = 0
  const close = closeOnce(async () => {
    if (++ends === 1) throw new Error('still in use')
  })
  const both = await Promise.allSettled([close(), close()])
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  await close()
  await close()
  expect(ends).toBe(2)
})
