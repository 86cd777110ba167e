/** On the run's MariaDB, and with a kill between any two steps: a failing step leaves what a killed process leaves, but for its connections, which end too. */
import { randomBytes } from 'node:crypto'
import { chmod, readFile, readdir, rename, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'kysely'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { lockCredentials } from '../db/queries/credentials.ts'
import type { HoldfastError, JsonObject } from '../domain/errors.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertRepository, insertSource } from '../test/catalog-rows.ts'
import { failureOf } from '../test/failure.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { sealingKeyId } from './credential-envelope.ts'
import { prepareCredentialsKey } from './credentials-at-start.ts'
import {
  CREDENTIALS_KEY_FILE,
  credentialsKeyPath,
  makeCredentialsKey,
  nextKeyPath,
  oldKeyPath,
  readCredentialsKey,
} from './credentials-keys.ts'
import { rotateCredentialsKey } from './credentials-rotation.ts'
import type { RotationOptions, RotationStep } from './credentials-rotation.ts'
import { findLostCredentials, forgetLostCredentials } from './lost-credentials.ts'
import { sealCredentials, unsealCredentials } from './sealed-credentials.ts'

/** InnoDB shows its transactions as they were when they were last asked for, unless nobody asked for a tenth of a second. */
const SEEN_ANEW_MS = 150
const steps: RotationStep[] = ['next-made', 'resealed', 'old-kept', 'replaced', 'resealed-again', 'next-removed']
let database: TestCatalog
let keys: string

beforeAll(async () => {
  database = await createTestCatalog()
})
afterAll(() => database?.drop())
beforeEach(async () => {
  for (const table of ['sources', 'backup_repositories', 'sealed_credentials'] as const)
    await database.catalog.deleteFrom(table).execute()
  keys = await temporaryFolder()
})

const rows = () => database.catalog.selectFrom('sealed_credentials').select(['id', 'sealed']).execute()
const sealOne = (password: string) => sealCredentials(database.catalog, keys, { password })
const open = (id: string) => unsealCredentials(database.catalog, keys, id)
const currentKeyId = async () => (await readCredentialsKey(credentialsKeyPath(keys)))?.id
const rotate = (options: Partial<RotationOptions> = {}) =>
  rotateCredentialsKey({ catalog: database.catalog, keysFolder: keys, hostId: 'local', copied: false, ...options })

async function expectAllUnder(keyId: string | undefined): Promise<void> {
  expect(await currentKeyId()).toBe(keyId)
  for (const { sealed } of await rows()) expect(sealingKeyId(sealed)).toBe(keyId)
}

describe('a rotation', () => {
  test('seals everything under a new key, and keeps the old one', async () => {
    const ids = [await sealOne('one'), await sealOne('two')]
    const before = await currentKeyId()
    const done = await rotate()
    const after = await currentKeyId()
    expect(after).not.toBe(before)
    const oldPath = join(keys, `${CREDENTIALS_KEY_FILE}.old-${before}`)
    expect(done).toMatchObject({ kind: 'rotated', keyId: after, credentials: 2, oldPaths: [oldPath], hosts: [] })
    expect(JSON.stringify(done)).not.toMatch(/one|two/)
    await expectAllUnder(after)
    await unlink(oldPath)
    expect(await open(ids[0]!)).toEqual({ password: 'one' })
    expect(await open(ids[1]!)).toEqual({ password: 'two' })
    expect(await readdir(keys)).toEqual([CREDENTIALS_KEY_FILE])
  })

  test.each(steps)('that is killed after "%s" leaves credentials that open, and the next run finishes', async (killedAfter) => {
    const ids = [await sealOne('one'), await sealOne('two')]
    const first = await currentKeyId()
    const killed = rotate({
      afterStep(step) {
        if (step === killedAfter) throw new Error('killed')
      },
    })
    await expect(killed).rejects.toThrow('killed')
    const promised = (await readCredentialsKey(nextKeyPath(keys)))?.id

    expect(await open(ids[0]!)).toEqual({ password: 'one' })
    const between = await sealOne('three')
    expect(await open(between)).toEqual({ password: 'three' })
    const warnings = await prepareCredentialsKey(keys, await rows())
    expect(warnings.join()).toMatch(killedAfter === 'next-removed' ? /^$/ : /rotation of the credentials key has not ended/)

    const done = await rotate()
    expect(done).toMatchObject({ kind: 'rotated', credentials: 3 })
    const last = await currentKeyId()
    expect(last).not.toBe(first)
    expect(last).toBe(promised ?? last)
    await expectAllUnder(last)
    expect((await readdir(keys)).filter((name) => !name.includes('.old-'))).toEqual([CREDENTIALS_KEY_FILE])
    for (const [id, password] of [...ids, between].map((id, index) => [id, ['one', 'two', 'three'][index]] as const))
      expect(await open(id)).toEqual({ password })
  })

  test('beside those who seal and open loses nothing and leaves nothing under an old key', async () => {
    const sealed = new Map<string, string>()
    const opened: [JsonObject | null, string][] = []
    const end = new AbortController()
    const sealing = async (name: string): Promise<void> => {
      for (let count = 0; !end.signal.aborted; count++) sealed.set(await sealOne(`${name}-${count}`), `${name}-${count}`)
    }
    const opening = async (): Promise<void> => {
      while (!end.signal.aborted) {
        for (const [id, password] of [...sealed].slice(-3)) opened.push([await open(id), password])
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    const work = [sealing('a'), sealing('b'), opening()]
    try {
      for (let round = 1; round <= 5; round++) {
        const before = sealed.size
        await rotate()
        await expect.poll(() => sealed.size, { interval: 5 }).toBeGreaterThan(before)
      }
    } finally {
      end.abort()
    }
    await Promise.all(work)
    expect(opened.length).toBeGreaterThan(5)
    for (const [found, password] of opened) expect(found).toEqual({ password })
    await expectAllUnder(await currentKeyId())
    expect((await rows()).length).toBe(sealed.size)
    for (const [id, password] of sealed) expect(await open(id)).toEqual({ password })
  })

  test('that ends between the sealing of a row and its storing: the row is sealed anew before anybody sees it', async () => {
    await sealOne('one')
    const waiting = sql<{ trx_id: number }>`select trx_id from information_schema.innodb_trx
      where trx_state = 'LOCK WAIT' and trx_query like '%sealed_credentials%'`
    const sealing = await database.catalog.transaction().execute(async (transaction) => {
      await lockCredentials(transaction)
      const promise = sealOne('two')
      await expect.poll(async () => (await waiting.execute(database.catalog)).rows.length, { interval: SEEN_ANEW_MS }).toBe(1)
      await rename(credentialsKeyPath(keys), oldKeyPath(keys, (await currentKeyId())!))
      await makeCredentialsKey(credentialsKeyPath(keys))
      return { promise }
    })
    const id = await sealing.promise
    expect(sealingKeyId((await rows()).find((row) => row.id === id)!.sealed)).toBe(await currentKeyId())
    expect(await open(id)).toEqual({ password: 'two' })
  })

  test('beside another one is refused', async () => {
    await sealOne('one')
    const refusals: HoldfastError[] = []
    await rotate({ afterStep: async () => void refusals.push(await failureOf(rotate())) })
    expect(refusals.map((error) => error.code)).toEqual(steps.map(() => 'INVALID_REQUEST'))
    expect(await rotate()).toMatchObject({ kind: 'rotated' })
  })

  test('waits for the copy when other hosts open credentials, and finishes there with it', async () => {
    const id = await sealOne('one')
    await insertSource(database.catalog, 'source-1', { credentials_id: id, host_id: 'kvm-2' })
    const there = await temporaryFolder()
    await writeFile(credentialsKeyPath(there), await readFile(credentialsKeyPath(keys)), { mode: 0o600 })
    const before = await currentKeyId()
    expect(await rotate()).toEqual({ kind: 'prepared', nextPath: nextKeyPath(keys), hosts: ['kvm-2'] })
    await expectAllUnder(before)
    await writeFile(nextKeyPath(there), await readFile(nextKeyPath(keys)), { mode: 0o600 })
    expect(await rotate({ copied: true })).toMatchObject({ kind: 'rotated', hosts: ['kvm-2'] })
    expect(await unsealCredentials(database.catalog, there, id)).toEqual({ password: 'one' })
    expect(await rotate({ keysFolder: there, hostId: 'kvm-2' })).toMatchObject({ kind: 'rotated', keyId: await currentKeyId() })
    expect(await readFile(credentialsKeyPath(there))).toEqual(await readFile(credentialsKeyPath(keys)))
    expect(await unsealCredentials(database.catalog, there, id)).toEqual({ password: 'one' })
  })

  test('of nothing does nothing', async () => {
    expect(await rotate()).toEqual({ kind: 'nothing-sealed' })
    expect(await readdir(keys)).toEqual([])
  })
})

describe('is refused, and changes nothing,', () => {
  const path = () => credentialsKeyPath(keys)

  test.each([
    ['is missing', () => unlink(path()), /is missing.*forget-lost-credentials/],
    ['is another', () => writeFile(path(), randomBytes(32)), /is not the one that sealed 1 of 1/],
    ['is cut short', () => truncate(path(), 31), /has 31 bytes instead of 32/],
    ['is open to others', () => chmod(path(), 0o644), /chmod 600/],
  ])('when the key %s: rotation, sealing and start', async (_, spoil, told) => {
    await sealOne('canary-77b2')
    const before = await rows()
    await spoil()
    const files = await readdir(keys)
    for (const work of [() => rotate(), () => sealOne('other'), async () => prepareCredentialsKey(keys, await rows())]) {
      const error = await failureOf(work())
      expect(error).toMatchObject({ code: 'CREDENTIALS_KEY_INVALID', retryable: false })
      expect(error.message).toMatch(told)
      expect(JSON.stringify([error.message, error.details])).not.toContain('canary')
    }
    expect(await rows()).toEqual(before)
    expect(await readdir(keys)).toEqual(files)
  })

  test.each(['damaged', "put in another's place"])('when a row is %s; others may still be sealed', async (how) => {
    const [good, bad] = [await sealOne('one'), await sealOne('two')]
    await insertRepository(database.catalog, 'repository-1', 'nas')
    await database.catalog.updateTable('backup_repositories').set({ credentials_id: bad }).execute()
    const all = await rows()
    const sealed = Buffer.from(all.find(({ id }) => id === (how === 'damaged' ? bad : good))!.sealed)
    if (how === 'damaged') sealed[sealed.length - 1]! ^= 1
    await database.catalog.updateTable('sealed_credentials').set({ sealed }).where('id', '=', bad).execute()
    const error = await failureOf(rotate())
    expect(error.message).toMatch(/repository "nas".*Nothing was changed/)
    expect(await readdir(keys)).toEqual([CREDENTIALS_KEY_FILE])
    expect(await prepareCredentialsKey(keys, await rows())).toEqual([expect.stringContaining(bad)])
    expect(await open(await sealOne('three'))).toEqual({ password: 'three' })
  })
})

describe('credentials whose key is lost', () => {
  test('are forgotten, those who used them are named, and all goes on with a new key', async () => {
    const [first, second] = [await sealOne('one'), await sealOne('two')]
    await insertSource(database.catalog, 'source-1', { credentials_id: first, name: 'kvm' })
    await insertRepository(database.catalog, 'repository-1', 'nas')
    await database.catalog.updateTable('backup_repositories').set({ credentials_id: second }).execute()
    expect(await findLostCredentials(database.catalog, keys)).toEqual({ ids: [], users: [] })
    await unlink(credentialsKeyPath(keys))
    const lost = await findLostCredentials(database.catalog, keys)
    expect(lost.users.map(({ kind, name }) => [kind, name])).toEqual([
      ['source', 'kvm'],
      ['repository', 'nas'],
    ])
    expect(await rows()).toHaveLength(2)
    expect(await forgetLostCredentials(database.catalog, keys)).toEqual(lost)
    expect(await rows()).toEqual([])
    expect(await prepareCredentialsKey(keys, [])).toEqual([])
    const again = await sealOne('three')
    expect(await open(again)).toEqual({ password: 'three' })
  })

  test('are those alone that nothing opens', async () => {
    await sealOne('one')
    await rotate()
    const kept = await sealOne('two')
    const lost = await sealOne('three')
    await database.catalog
      .updateTable('sealed_credentials')
      .set({ sealed: Buffer.from('nonsense') })
      .where('id', '=', lost)
      .execute()
    expect((await forgetLostCredentials(database.catalog, keys)).ids).toEqual([lost])
    expect(await open(kept)).toEqual({ password: 'two' })
    expect(await rows()).toHaveLength(2)
  })
})
