import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { loadKeyFile } from './key-file.ts'
import { seal, unseal } from './sealed-credentials.ts'

const secret = { ssh_private_key: 'canary-9c1e7a', nested: { list: ['ü', 1, null] } }
const key = new Uint8Array(randomBytes(32))

/** What opening fails with; the words must not help anybody. */
async function refusal(open: () => unknown): Promise<string> {
  const error = await failureOf(Promise.resolve().then(open))
  expect(error.code).toBe('INTERNAL')
  expect(JSON.stringify([error.message, error.details])).not.toContain('canary')
  return error.message
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
    const message = await refusal(() => unseal(new Uint8Array(randomBytes(32)), 'credentials-1', sealed))
    expect(message).toContain('Give them again')
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

  test.each([0, 1, 12, 13, 28, 29])('%i bytes of it are not enough', async (length) => {
    const sealed = seal(key, 'credentials-1', secret)
    expect(await refusal(() => unseal(key, 'credentials-1', sealed.subarray(0, length)))).toContain('Give them again')
  })
})

describe('a key file', () => {
  const load = (folder: string) => loadKeyFile(folder, 'test.key', 'all is lost')

  test('is made once, for us alone, whoever asks first', async () => {
    const folder = join(await temporaryFolder(), 'keys')
    const keys = await Promise.all(Array.from({ length: 10 }, () => load(folder)))
    expect(new Set(keys.map((one) => Buffer.from(one).toString('hex'))).size).toBe(1)
    expect((await stat(join(folder, 'test.key'))).mode & 0o777).toBe(0o600)
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
    expect(await load(folder)).toEqual(keys[0])
  })

  test('that others may read is refused, and says what to do', async () => {
    const folder = await temporaryFolder()
    await load(folder)
    await chmod(join(folder, 'test.key'), 0o640)
    expect((await failureOf(load(folder))).message).toMatch(/chmod 600.*all is lost/)
  })

  test.each([0, 31, 33])('of %i bytes is refused and left as it is', async (length) => {
    const folder = await temporaryFolder()
    const path = join(folder, 'test.key')
    await writeFile(path, Buffer.alloc(length, 7), { mode: 0o600 })
    expect((await failureOf(load(folder))).code).toBe('INTERNAL')
    expect(await readFile(path)).toHaveLength(length)
  })

  test('that is no file is refused', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'test.key'))
    expect((await failureOf(load(folder))).code).toBe('INTERNAL')
  })
})
