/**
 * Idempotency keys: what was asked under a key, which id was reserved for it before anything started, and what was answered.
 * A row without an answer means: started, or about to be, and the process may have died in between.
 */
import type { JsonObject } from '../../domain/errors.ts'
import type { Catalog } from '../client.ts'
import { isDuplicateKey } from '../driver-errors.ts'

export interface KeyOwner {
  userId: string
  key: string
}

export interface KeyRecord {
  requestSha256: string
  /** The id that the work has, or will have. */
  reservedId: string
  /** `null` while no answer is known. */
  answer: { statusCode: number; body: JsonObject } | null
}

/** Records the key with its reserved id unless the owner has used it since `notBefore`. Returns what stands under the key now, ours or the earlier one. */
export async function reserveKey(
  catalog: Catalog,
  owner: KeyOwner,
  request: { sha256: string; reservedId: string; now: Date; notBefore: Date },
): Promise<KeyRecord> {
  await catalog
    .deleteFrom('idempotency_keys')
    .where('user_id', '=', owner.userId)
    .where('idempotency_key', '=', owner.key)
    .where('created_at', '<', request.notBefore)
    .execute()
  try {
    await catalog
      .insertInto('idempotency_keys')
      .values({
        user_id: owner.userId,
        idempotency_key: owner.key,
        request_sha256: request.sha256,
        status_code: null,
        response: JSON.stringify({ reserved_id: request.reservedId }),
        created_at: request.now,
      })
      .execute()
  } catch (error) {
    // The key stands already: what it stands for is read below.
    if (!isDuplicateKey(error)) throw error
  }
  const row = await catalog
    .selectFrom('idempotency_keys')
    .selectAll()
    .where('user_id', '=', owner.userId)
    .where('idempotency_key', '=', owner.key)
    .executeTakeFirstOrThrow()
  const stored = (row.response ?? {}) as { reserved_id?: string; body?: JsonObject }
  return {
    requestSha256: row.request_sha256,
    reservedId: stored.reserved_id ?? request.reservedId,
    answer: row.status_code === null || !stored.body ? null : { statusCode: row.status_code, body: stored.body },
  }
}

/** Keeps the answer, so that the same request gets it again. */
export async function storeAnswer(
  catalog: Catalog,
  owner: KeyOwner,
  answer: { reservedId: string; statusCode: number; body: JsonObject },
): Promise<void> {
  await catalog
    .updateTable('idempotency_keys')
    .set({ status_code: answer.statusCode, response: JSON.stringify({ reserved_id: answer.reservedId, body: answer.body }) })
    .where('user_id', '=', owner.userId)
    .where('idempotency_key', '=', owner.key)
    .execute()
}

/** Forgets keys older than `before`; returns how many. */
export async function forgetKeys(catalog: Catalog, before: Date): Promise<number> {
  const result = await catalog.deleteFrom('idempotency_keys').where('created_at', '<', before).executeTakeFirst()
  return Number(result.numDeletedRows)
}
