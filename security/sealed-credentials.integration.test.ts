import { randomBytes } from 'node:crypto'
import { readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Catalog } from '../db/client.ts'
import { deleteUnreferencedCredentials } from '../db/queries/credentials.ts'
import { createTestCatalog } from '../test/catalog.ts'
import type { TestCatalog } from '../test/catalog.ts'
import { insertRepository, insertSource } from '../test/catalog-rows.ts'
import { failureOf } from '../test/failure.ts'
import { createTemporaryFolder } from '../test/temporary-folder.ts'
import { CREDENTIALS_KEY_FILE } from './credentials-keys.ts'
import { discardCredentials, sealCredentials, unsealCredentials } from './sealed-credentials.ts'

const secret = { ssh_private_key: 'canary-4be1' }
let database: TestCatalog
let catalog: Catalog
let folder: Awaited<ReturnType<typeof createTemporaryFolder>>

beforeAll(async () => {
  database = await createTestCatalog()
  catalog = database.catalog
  folder = await createTemporaryFolder()
})
afterAll(async () => {
  await database?.drop()
  await folder?.remove()
})

const rows = () => catalog.selectFrom('sealed_credentials').selectAll().execute()

describe('stored credentials', () => {
  test('come back as they were, and the catalog holds nothing readable', async () => {
    const id = await sealCredentials(catalog, folder.path, secret)
    expect(await unsealCredentials(catalog, folder.path, id)).toEqual(secret)
    expect(await unsealCredentials(catalog, folder.path, null)).toBeNull()
    for (const row of await rows()) expect(row.sealed.toString('latin1')).not.toContain('canary')
  })

  test('the longest that the API takes fit', async () => {
    const longest = { ssh_private_key: '\\'.repeat(8_000) }
    const id = await sealCredentials(catalog, folder.path, longest)
    expect(await unsealCredentials(catalog, folder.path, id)).toEqual(longest)
  })

  test('two rows that were swapped open nothing', async () => {
    const ids = [await sealCredentials(catalog, folder.path, secret), await sealCredentials(catalog, folder.path, { other: 1 })]
    const [one, other] = await Promise.all(
      ids.map((id) => catalog.selectFrom('sealed_credentials').select('sealed').where('id', '=', id).executeTakeFirstOrThrow()),
    )
    await catalog.updateTable('sealed_credentials').set(other!).where('id', '=', ids[0]!).execute()
    await catalog.updateTable('sealed_credentials').set(one!).where('id', '=', ids[1]!).execute()
    for (const id of ids) expect((await failureOf(unsealCredentials(catalog, folder.path, id))).code).toBe('INTERNAL')
    for (const id of ids) await discardCredentials(catalog, id)
  })

  test('gone, they must be given again', async () => {
    const id = await sealCredentials(catalog, folder.path, secret)
    await discardCredentials(catalog, id)
    await discardCredentials(catalog, id)
    expect((await failureOf(unsealCredentials(catalog, folder.path, id))).message).toContain('Give them again')
  })
})

describe('without the key that sealed them', () => {
  const code = 'CREDENTIALS_KEY_INVALID'
  const keyFile = () => join(folder.path, CREDENTIALS_KEY_FILE)

  test('nothing is opened, nothing is sealed, and no key is made', async () => {
    const id = await sealCredentials(catalog, folder.path, secret)
    await rename(keyFile(), `${keyFile()}.away`)
    expect(await failureOf(unsealCredentials(catalog, folder.path, id))).toMatchObject({ code })
    const refusal = await failureOf(sealCredentials(catalog, folder.path, secret))
    expect(refusal).toMatchObject({ code, retryable: false })
    expect(refusal.message).toContain(`The key file ${keyFile()} is missing.`)
    expect(await readdir(folder.path)).toEqual([`${CREDENTIALS_KEY_FILE}.away`])
    await rename(`${keyFile()}.away`, keyFile())
    expect(await unsealCredentials(catalog, folder.path, id)).toEqual(secret)
  })

  test('another one opens nothing and seals nothing', async () => {
    const before = await rows()
    const other = await createTemporaryFolder()
    onTestFinished(() => other.remove())
    await writeFile(join(other.path, CREDENTIALS_KEY_FILE), randomBytes(32), { mode: 0o600 })
    expect(await failureOf(unsealCredentials(catalog, other.path, before[0]!.id))).toMatchObject({ code })
    const refusal = await failureOf(sealCredentials(catalog, other.path, secret))
    expect(refusal).toMatchObject({ code })
    expect(refusal.message).toContain(`is not the one that sealed ${before.length} of ${before.length} stored credentials`)
    expect(await rows()).toEqual(before)
  })
})

describe('credentials that a source or a repository uses', () => {
  test('are not discarded, by name or by age; the others of that age are', async () => {
    await catalog.deleteFrom('sealed_credentials').execute()
    const bySource = await sealCredentials(catalog, folder.path, secret)
    const byRepository = await sealCredentials(catalog, folder.path, { password: 'canary-4be1' })
    const unused = await sealCredentials(catalog, folder.path, secret)
    await insertSource(catalog, 'source-1', { credentials_id: bySource })
    await insertSource(catalog, 'source-2')
    await insertRepository(catalog, 'repo-1')
    await insertRepository(catalog, 'repo-2')
    await catalog.updateTable('backup_repositories').set({ credentials_id: byRepository }).where('id', '=', 'repo-1').execute()
    for (const id of [bySource, byRepository]) await discardCredentials(catalog, id)
    expect(await deleteUnreferencedCredentials(catalog, new Date(Date.now() - 60_000))).toBe(0)
    expect(await deleteUnreferencedCredentials(catalog, new Date(Date.now() + 60_000))).toBe(1)
    expect((await rows()).map((row) => row.id).toSorted()).toEqual([bySource, byRepository].toSorted())
    expect(unused).not.toBe(bySource)
  })
})
