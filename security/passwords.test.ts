import { parseOptions } from '@node-rs/argon2'
import { describe, expect, it } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { argon2Parameters, decoyHash, hashPassword, PASSWORD_LENGTH_MAX, verifyPassword } from './passwords.ts'

const password = 'correct horse — пароль 🔑'

describe('a stored password', () => {
  it('is an Argon2id hash with our parameters and a salt of its own', async () => {
    const [first, second] = await Promise.all([hashPassword(password), hashPassword(password)])
    expect(first).toMatch(/^\$argon2id\$v=19\$m=65536,t=3,p=1\$/)
    expect(first).not.toBe(second)
    expect(parseOptions(first).saltLen).toBeGreaterThanOrEqual(16)
  })

  it('matches itself and nothing else', async () => {
    const stored = await hashPassword(password)
    expect(await verifyPassword(stored, password)).toBe(true)
    for (const wrong of ['', 'x', `${password} `, password.toUpperCase()]) expect(await verifyPassword(stored, wrong)).toBe(false)
  })

  it('is never empty or endless', async () => {
    for (const bad of ['', 'x'.repeat(PASSWORD_LENGTH_MAX + 1)])
      expect(await failureOf(hashPassword(bad))).toMatchObject({ code: 'INVALID_REQUEST' })
    expect(await verifyPassword(decoyHash, 'x'.repeat(PASSWORD_LENGTH_MAX + 1))).toBe(false)
  })

  it('that is damaged is reported, not taken for a wrong password', async () => {
    const error = await failureOf(verifyPassword('$argon2id$broken', password))
    expect(error).toMatchObject({ code: 'INTERNAL' })
    expect(error.message).not.toContain(password)
  })
})

describe('a user who does not exist', () => {
  it('is checked against a decoy of the same cost', () => {
    const { algorithm, memoryCost, timeCost, parallelism, outputLen } = parseOptions(decoyHash)
    expect({ algorithm, memoryCost, timeCost, parallelism, outputLen }).toEqual(argon2Parameters)
  })

  it('never gets in, and waits as long as for a wrong password', async () => {
    const stored = await hashPassword(password)
    const timed = async (hash: string | undefined): Promise<number> => {
      const started = performance.now()
      expect(await verifyPassword(hash, 'wrong')).toBe(false)
      return performance.now() - started
    }
    const known = await timed(stored)
    const unknown = await timed(undefined)
    // Far apart when one of them does not hash at all; the machine's noise stays below.
    expect(unknown / known).toBeGreaterThan(0.2)
    expect(unknown / known).toBeLessThan(5)
  })
})
