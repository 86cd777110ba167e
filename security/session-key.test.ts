import { chmod, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { loadSessionKey, SESSION_KEY_FILE } from './session-key.ts'

let home: string
let folder: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'holdfast-keys-'))
  folder = join(home, 'keys')
})
afterEach(() => rm(home, { recursive: true, force: true }))

describe('the session key', () => {
  it('is made once, 32 bytes, for our eyes only', async () => {
    const first = await loadSessionKey(folder)
    expect(first).toHaveLength(32)
    expect(new Set(first).size).toBeGreaterThan(8)
    expect(await loadSessionKey(folder)).toEqual(first)
    expect((await stat(join(folder, SESSION_KEY_FILE))).mode & 0o777).toBe(0o600)
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
  })

  it('is the same for everyone who makes it at the same time, and leaves no draft behind', async () => {
    const keys = await Promise.all(Array.from({ length: 20 }, () => loadSessionKey(folder)))
    expect(new Set(keys.map((key) => Buffer.from(key).toString('hex'))).size).toBe(1)
    expect(await readdir(folder)).toEqual([SESSION_KEY_FILE])
  })

  it('is refused when others can read it, or when it is damaged', async () => {
    await loadSessionKey(folder)
    const path = join(folder, SESSION_KEY_FILE)
    await chmod(path, 0o640)
    expect(await failureOf(loadSessionKey(folder))).toMatchObject({
      code: 'INTERNAL',
      message: expect.stringContaining('other users'),
    })
    await chmod(path, 0o600)
    await writeFile(path, '')
    expect(await failureOf(loadSessionKey(folder))).toMatchObject({
      code: 'INTERNAL',
      message: expect.stringContaining('0 bytes'),
    })
  })
})
