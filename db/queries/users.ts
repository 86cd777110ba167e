/** Reading the people and programs that may sign in. */
import type { Selectable } from 'kysely'
import type { Catalog } from '../client.ts'
import type { UsersTable } from '../schema.ts'

export type User = Selectable<UsersTable>

export async function findUser(catalog: Catalog, id: string): Promise<User | undefined> {
  return catalog.selectFrom('users').selectAll().where('id', '=', id).executeTakeFirst()
}

export async function findUserByName(catalog: Catalog, username: string): Promise<User | undefined> {
  return catalog.selectFrom('users').selectAll().where('username', '=', username).executeTakeFirst()
}
