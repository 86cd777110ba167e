import { array, assert, integer, property } from 'fast-check'
import { expect, it } from 'vitest'
import { Watermark } from './watermark.ts'

it('stays below the first step that has not ended', () => {
  const watermark = new Watermark({ positionBytes: 100, writtenBytes: 7 })
  const [first, second, third] = [watermark.begin(200), watermark.begin(300), watermark.begin(400)]
  second(20)
  expect(watermark.reached).toEqual({ positionBytes: 100, writtenBytes: 7 })
  first(10)
  expect(watermark.reached).toEqual({ positionBytes: 300, writtenBytes: 37 })
  third(0)
  expect(watermark.reached).toEqual({ positionBytes: 400, writtenBytes: 37 })
})

it('ends at the end, whatever the order', () => {
  assert(
    property(array(integer({ min: 0, max: 15 }), { minLength: 3_000, maxLength: 3_000 }), (choices) => {
      const watermark = new Watermark({ positionBytes: 0, writtenBytes: 0 })
      const open: { end: number; done: (bytes: number) => void }[] = []
      for (const [index, choice] of choices.entries()) {
        open.push({ end: index + 1, done: watermark.begin(index + 1) })
        const [ended] = open.length > 15 ? open.splice(choice, 1) : []
        ended?.done(1)
        expect(watermark.reached.positionBytes).toBe((open[0]?.end ?? index + 2) - 1)
      }
      for (const { done } of open) done(1)
      expect(watermark.reached).toEqual({ positionBytes: 3_000, writtenBytes: 3_000 })
    }),
    { numRuns: 10 },
  )
})
