import { randomBytes } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { checkSignature, isSignedAnswer, signAnswer, signRequest } from './signed-requests.ts'

const key = randomBytes(32)
const request = { method: 'GET', port: 9000, target: '/mounts/m/download?path=%2Fetc%2Fhosts' }
const NOW = 1_800_000_000_000

const refusal = (...[given, signed, header, now]: Parameters<typeof checkSignature>) =>
  failureOf(Promise.resolve().then(() => checkSignature(given, signed, header, now)))

describe('signed requests', () => {
  it('are let in as they were signed, for half a minute, also by a clock that is a little behind', () => {
    const header = signRequest(key, request, NOW)
    expect(header).toMatch(/^Holdfast \d+\.[0-9a-f]{64}$/)
    for (const now of [NOW, NOW + 30_000, NOW - 30_000]) expect(() => checkSignature(key, request, header, now)).not.toThrow()
  })

  it.each([30_001, 3_600_000, -30_001])('are refused by a clock that is %d ms off', async (off) => {
    expect(await refusal(key, request, signRequest(key, request, NOW), NOW + off)).toMatchObject({
      code: 'UNAUTHENTICATED',
      message: expect.stringContaining('clocks'),
    })
  })

  it.each([
    ['another target', { ...request, target: `${request.target}x` }],
    ['the same target, written otherwise', { ...request, target: '/mounts/m/download?path=/etc/hosts' }],
    ['another port', { ...request, port: 9001 }],
    ['another method', { ...request, method: 'HEAD' }],
  ])('are refused for %s', async (_, other) => {
    expect(await refusal(key, other, signRequest(key, request, NOW), NOW)).toMatchObject({
      code: 'UNAUTHENTICATED',
      message: expect.stringContaining('key file'),
    })
  })

  it('are refused with another key, or another end than was signed', async () => {
    const header = signRequest(key, request, NOW)
    expect((await refusal(randomBytes(32), request, header, NOW)).code).toBe('UNAUTHENTICATED')
    const later = header.replace(String(NOW + 30_000), String(NOW + 40_000))
    expect(later).not.toBe(header)
    expect((await refusal(key, request, later, NOW)).code).toBe('UNAUTHENTICATED')
  })

  it('have answers that only who has the key can give, and to this request only', () => {
    const header = signRequest(key, request, NOW)
    const answer = signAnswer(key, header)
    expect(isSignedAnswer(key, header, answer)).toBe(true)
    expect(isSignedAnswer(key, signRequest(key, request, NOW + 1), answer)).toBe(false)
    for (const given of [undefined, '', header, header.split('.')[1], signAnswer(randomBytes(32), header)]) {
      expect(isSignedAnswer(key, header, given)).toBe(false)
    }
  })

  it('are refused with any header that is none of ours', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.option(fc.oneof(fc.string(), fc.stringMatching(/^Holdfast \d{0,20}\.[0-9a-f]{62,66}$/)), { nil: undefined }),
        async (header) => {
          expect((await refusal(key, request, header, NOW)).code).toBe('UNAUTHENTICATED')
        },
      ),
    )
  })
})
