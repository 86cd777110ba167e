/**
 * `Idempotency-Key`: asking twice starts once. The id of the work is stored under the key before anything starts, so that a retry
 * after a crash finds the work that was started, or starts it under the same id.
 */
import { createHash } from 'node:crypto'
import type { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { forgetKeys, reserveKey, storeAnswer } from '../../db/queries/idempotency.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { ApiDependencies, ApiEnv } from '../dependencies.ts'

/** Keys are forgotten after this long. */
export const KEY_LIFETIME_MS = 24 * 60 * 60 * 1000

export interface Work<Answer> {
  /** What makes two requests the same: the verb, what it acts on, and the checked body. */
  request: object
  statusCode: number
  /** The shape of the answer, to read a kept one by. */
  shape: z.ZodType<Answer>
  newId(): string
  /** The answer of work that already stands under `id`; `undefined` when it was never recorded. */
  recall(id: string): Promise<Answer | undefined>
  /** Starts the work under `id`. Called again with the same id when an earlier call may or may not have succeeded. */
  start(id: string): Promise<Answer>
}

export type StartOnce = <Answer extends JsonObject>(c: Context<ApiEnv>, work: Work<Answer>) => Promise<Answer>

/** Without a key the work simply starts. `IDEMPOTENCY_CONFLICT` when the key stands for another request. */
export function createStartOnce(dependencies: Pick<ApiDependencies, 'catalog' | 'logger' | 'now'>): StartOnce {
  const { catalog, logger, now } = dependencies
  const turns = new Map<string, Promise<unknown>>()

  return async (c, work) => {
    const key = c.req.header('Idempotency-Key')
    if (key === undefined) return work.start(work.newId())
    const owner = { userId: c.get('session').userId, key }
    return inTurn(turns, JSON.stringify([owner.userId, key]), () => startUnderKey(owner, work))
  }

  async function startUnderKey<Answer extends JsonObject>(
    owner: { userId: string; key: string },
    work: Work<Answer>,
  ): Promise<Answer> {
    const sha256 = createHash('sha256').update(JSON.stringify(work.request)).digest('hex')
    const at = now()
    const notBefore = new Date(at.getTime() - KEY_LIFETIME_MS)
    const record = await reserveKey(catalog, owner, { sha256, reservedId: work.newId(), now: at, notBefore })
    if (record.requestSha256 !== sha256) {
      throw new HoldfastError('IDEMPOTENCY_CONFLICT', 'This Idempotency-Key was used for another request: use a new key.')
    }
    // An answer kept by another version may have another shape; then the work itself is asked again.
    const kept = work.shape.safeParse(record.answer?.body)
    if (kept.success) return kept.data
    const answer = (await work.recall(record.reservedId)) ?? (await work.start(record.reservedId))
    try {
      await storeAnswer(catalog, owner, { reservedId: record.reservedId, statusCode: work.statusCode, body: answer })
    } catch (error) {
      // The work has started and that is what the caller must hear; a retry recalls it by its id.
      logger.warn({ err: error }, 'the answer could not be kept under its idempotency key')
    }
    return answer
  }
}

/** Removes keys past their lifetime; returns how many. */
export async function forgetExpiredKeys({ catalog, now }: Pick<ApiDependencies, 'catalog' | 'now'>): Promise<number> {
  return forgetKeys(catalog, new Date(now().getTime() - KEY_LIFETIME_MS))
}

/** Requests under one key wait for each other, so that the second finds the first one's answer. */
async function inTurn<Result>(turns: Map<string, Promise<unknown>>, name: string, run: () => Promise<Result>): Promise<Result> {
  const before = turns.get(name) ?? Promise.resolve()
  // Whether the one before failed is its caller's affair.
  const mine = before.then(run, run)
  turns.set(name, mine)
  try {
    return await mine
  } finally {
    if (turns.get(name) === mine) turns.delete(name)
  }
}
