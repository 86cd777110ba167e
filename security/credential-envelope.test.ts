import { createCipheriv, createHash, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../domain/errors.ts'
import { failureOf } from '../test/failure.ts'
import { keysOf, seal, sealingKeyId, unseal, unsealWithAny } from './credential-envelope.ts'

const secret = { ssh_private_key: 'canary-9c1e7a', nested: { list: ['ü', 1, null] } }
const key = newKey()

function newKey() {
  const bytes = new Uint8Array(randomBytes(32))
  return { id: createHash('sha256').update(bytes).digest('hex').slice(0, 16), bytes }
}

/** What opening fails with; the words must not help anybody. */
async function refusal(open: () => unknown): Promise<string> {
  const error = await failureOf(Promise.resolve().then(open))
  expect(error.code).toBe('INTERNAL')
  expect(JSON.stringify([error.message, error.details])).not.toContain('canary')
  return error.message
}

/** As sealed before envelopes named their key. */
function sealVersion1(bytes: Uint8Array, id: string, credentials: JsonObject): Buffer {
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', bytes, nonce, { authTagLength: 16 }).setAAD(Buffer.from(id))
  const ciphertext = Buffer.concat([cipher.update(JSON.stringify(credentials), 'utf8'), cipher.final()])
  return Buffer.concat([Buffer.from([1]), nonce, cipher.getAuthTag(), ciphertext])
}

describe('sealing', () => {
  test('gives back what was given, and shows nothing of it', () => {
    const sealed = seal(key, 'credentials-1', secret)
    expect(unseal(key, 'credentials-1', sealed)).toEqual(secret)
    expect(sealed.toString('latin1')).not.toContain('canary')
    expect(sealed.toString('latin1')).not.toContain('ssh_private_key')
  })

  test('the same twice looks different', () => {
    expect(seal(key, 'credentials-1', secret).equals(seal(key, 'credentials-1', secret))).toBe(false)
  })

  test('another key opens nothing', async () => {
    const sealed = seal(key, 'credentials-1', secret)
    expect(await refusal(() => unseal(newKey(), 'credentials-1', sealed))).toContain('Give them again')
  })

  test("a row put in another's place opens nothing", async () => {
    const sealed = seal(key, 'credentials-1', secret)
    expect(await refusal(() => unseal(key, 'credentials-2', sealed))).toContain('Give them again')
  })

  test('any flipped bit is noticed', async () => {
    const sealed = seal(key, 'credentials-1', { a: 1 })
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const damaged = Buffer.from(sealed)
      damaged[bit >> 3]! ^= 1 << (bit & 7)
      expect(await refusal(() => unseal(key, 'credentials-1', damaged))).toContain('Give them again')
    }
  })

  test.each([0, 1, 8, 9, 20, 21, 36, 37])('%i bytes of it are not enough', async (length) => {
    const sealed = seal(key, 'credentials-1', secret)
    expect(await refusal(() => unseal(key, 'credentials-1', sealed.subarray(0, length)))).toContain('Give them again')
  })
})

describe('the key of an envelope', () => {
  test('is named in it, and found among others', () => {
    const [other, sealed] = [newKey(), seal(key, 'credentials-1', secret)]
    expect(sealingKeyId(sealed)).toBe(key.id)
    expect(keysOf([other, key], sealed)).toEqual([key])
    expect(unsealWithAny([other, key], 'credentials-1', sealed)).toEqual(secret)
  })

  test('that is not here is said to be so', async () => {
    const message = await refusal(() => unsealWithAny([newKey()], 'credentials-1', seal(key, 'credentials-1', secret)))
    expect(message).toContain('the key that sealed them is not here')
  })

  test('cannot be talked over: another name is noticed, even with the right key', async () => {
    const sealed = seal({ ...key, id: '00'.repeat(8) }, 'credentials-1', secret)
    Buffer.from(key.id, 'hex').copy(sealed, 1)
    expect(await refusal(() => unseal(key, 'credentials-1', sealed))).toContain('changed since')
  })
})

describe('an envelope of version 1', () => {
  const sealed = sealVersion1(key.bytes, 'credentials-1', secret)

  test('names no key, and opens with whichever it was', () => {
    expect(sealingKeyId(sealed)).toBeUndefined()
    expect(unsealWithAny([newKey(), key, newKey()], 'credentials-1', sealed)).toEqual(secret)
  })

  test('opens for no other row, with no other key, and not as version 2', async () => {
    expect(await refusal(() => unsealWithAny([key], 'credentials-2', sealed))).toContain('Give them again')
    expect(await refusal(() => unsealWithAny([newKey()], 'credentials-1', sealed))).toContain('Give them again')
    const raised = Buffer.from(sealed)
    raised[0] = 2
    expect(await refusal(() => unseal(key, 'credentials-1', raised))).toContain('Give them again')
  })

  test('of an unknown version is refused', async () => {
    const newer = Buffer.from(sealed)
    newer[0] = 3
    expect(await refusal(() => unseal(key, 'credentials-1', newer))).toContain('format 3')
  })
})
