/** The few calls of Holdfast's API that the demo makes, over HTTP like any other client. */
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { HoldfastError } from '../../domain/errors.ts'

const backupView = z.object({
  id: z.string(),
  status: z.string(),
  processed_bytes: z.number(),
  total_bytes: z.number(),
  bytes_transferred: z.number(),
  size_bytes: z.number(),
  consistency: z.string().nullable(),
  consistency_reason: z.string().nullable(),
  warnings: z.array(z.object({ disk: z.string().nullable(), message: z.string() })),
  verification_status: z.string(),
  verification_message: z.string().nullable(),
  error_code: z.string().nullable(),
  error_message: z.string().nullable(),
  disks: z.array(z.object({ disk_index: z.number(), resumed_at_bytes: z.number(), attempt: z.number() })),
})
export type BackupView = z.infer<typeof backupView>

const restoreView = z.object({ restore_id: z.string(), status: z.string(), error_message: z.string().nullable() })
export type RestoreView = z.infer<typeof restoreView>

const failure = z.object({ error: z.string(), error_code: z.string() })

export class ApiClient {
  readonly #base: string
  #token: string | null = null

  constructor(base: string) {
    this.#base = base
  }

  async login(username: string, password: string): Promise<void> {
    const answer = await this.call('POST', '/auth/login', z.object({ token: z.string() }), { username, password })
    this.#token = answer.token
  }

  async backup(backupId: string): Promise<BackupView> {
    return (await this.call('GET', `/backups/${backupId}`, z.object({ backup: backupView }))).backup
  }

  async restore(restoreId: string): Promise<RestoreView> {
    return (await this.call('GET', `/restores/${restoreId}`, z.object({ restore: restoreView }))).restore
  }

  /** One request, its answer checked against `schema`. A failure becomes an `INTERNAL` error that carries the API's own words. */
  async call<Schema extends z.ZodType>(method: string, path: string, schema: Schema, body?: object): Promise<z.infer<Schema>> {
    const response = await fetch(`${this.#base}${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        ...this.#authorization(),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(60_000),
    })
    const answer: unknown = await response.json()
    if (response.ok) return schema.parse(answer)
    throw refused(method, path, response.status, answer)
  }

  /** Content that is streamed. A failure becomes an `INTERNAL` error that carries the API's own words. */
  async open(path: string): Promise<Response> {
    const response = await fetch(`${this.#base}${path}`, { headers: this.#authorization() })
    if (!response.ok) throw refused('GET', path, response.status, await response.json())
    return response
  }

  /** Asks until `done` says so, and hands every answer to `watch`. */
  async follow<View>(ask: () => Promise<View>, done: (view: View) => boolean, watch?: (view: View) => void): Promise<View> {
    for (;;) {
      const view = await ask()
      watch?.(view)
      if (done(view)) return view
      await delay(250)
    }
  }

  #authorization(): Record<string, string> {
    return this.#token === null ? {} : { authorization: `Bearer ${this.#token}` }
  }
}

function refused(method: string, path: string, status: number, answer: unknown): HoldfastError {
  const said = failure.safeParse(answer).data
  return new HoldfastError('INTERNAL', `${method} ${path} answered ${status} ${said?.error_code}: ${said?.error}`)
}

export function hasEnded(view: { status: string }): boolean {
  return ['completed', 'failed', 'cancelled'].includes(view.status)
}
