import { chmod, mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { loadKeyFile } from './key-file.ts'

const load = (folder: string) => loadKeyFile(folder, 'test.key', 'all is lost')

test('a key is made once, for us alone, whoever asks first, and no draft of it stays', async () => {
  const folder = join(await temporaryFolder(), 'keys')
  const keys = await Promise.all(Array.from({ length: 10 }, () => load(folder)))
  expect(new Set(keys.map((one) => Buffer.from(one).toString('hex'))).size).toBe(1)
  expect((await stat(join(folder, 'test.key'))).mode & 0o777).toBe(0o600)
  expect((await stat(folder)).mode & 0o777).toBe(0o700)
  expect(await load(folder)).toEqual(keys[0])
  expect(await readdir(folder)).toEqual(['test.key'])
})

test('a key that others may read is refused, and the refusal says what to do', async () => {
  const folder = await temporaryFolder()
  await load(folder)
  await chmod(join(folder, 'test.key'), 0o640)
  expect((await failureOf(load(folder))).message).toMatch(/chmod 600.*all is lost/)
})

test.each([0, 31, 33])('a key of %i bytes is refused and left as it is', async (length) => {
  const folder = await temporaryFolder()
  const path = join(folder, 'test.key')
  await writeFile(path, Buffer.alloc(length, 7), { mode: 0o600 })
  expect((await failureOf(load(folder))).code).toBe('INTERNAL')
  expect(await readFile(path)).toHaveLength(length)
})

test('a key that is no file is refused', async () => {
  const folder = await temporaryFolder()
  await mkdir(join(folder, 'test.key'))
  expect((await failureOf(load(folder))).code).toBe('INTERNAL')
})
