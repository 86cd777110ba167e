/** One access to the files of a mount: written into the audit trail, then asked of the mover that holds the mount. */
import type { IncomingMessage } from 'node:http'
import type { Context } from 'hono'
import type { RestoreMountRow } from '../db/queries/restore-mounts.ts'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import { streamOf } from './answer-stream.ts'
import { auditOfMount } from './audit.ts'
import type { AuditAction, AuditTrail } from './audit.ts'
import type { ApiDependencies, ApiEnv } from './dependencies.ts'

/** A page of a thousand entries, each with two paths. */
const JSON_MAX_CHARACTERS = 64 * 1024 * 1024

export interface FileAccess {
  mount: RestoreMountRow
  action: AuditAction
  /** Of the mover's service: `files`, `download` … */
  resource: string
  query: Record<string, string>
  /** Of the client's request; passed on. */
  headers?: Record<string, string>
  /** For the audit trail. */
  details: JsonObject
}

export interface Passing {
  /** Notes how it came out, too. */
  endAction?: AuditAction
  /** Our headers, made of the mover's answer. */
  headersOf: (answer: IncomingMessage) => Record<string, string>
  /** What to give in place of the answer's own bytes. */
  piecesOf?: (answer: IncomingMessage) => AsyncIterable<Uint8Array>
}

/** All three throw what `MoverFiles.ask` does, and `CATALOG_UNAVAILABLE` when it cannot be written into the audit trail. */
export interface FileAccesses {
  /** The mover's answer, which is JSON. */
  ask<Answer>(c: Context<ApiEnv>, access: FileAccess): Promise<Answer>
  /** The mover's answer as ours, in a stream; its head alone for HEAD. */
  pass(c: Context<ApiEnv>, access: FileAccess, passing: Passing): Promise<Response>
}

export function createFileAccesses({ moverFiles }: Pick<ApiDependencies, 'moverFiles'>, audit: AuditTrail): FileAccesses {
  async function open(c: Context<ApiEnv>, access: FileAccess, method: 'GET' | 'HEAD'): Promise<IncomingMessage> {
    const { mount, resource, query, headers = {} } = access
    await audit.note(c, auditOfMount(access.action, mount, access.details))
    const signal = c.req.raw.signal
    return moverFiles.ask({ method, hostId: mount.host_id, mountId: mount.id, resource, query, headers, signal })
  }

  return {
    async ask<Answer>(c: Context<ApiEnv>, access: FileAccess): Promise<Answer> {
      const answer: Answer = JSON.parse(await textOf(await open(c, access, 'GET')))
      return answer
    },

    async pass(c, access, { endAction, headersOf, piecesOf }) {
      const method = c.req.method === 'HEAD' ? 'HEAD' : 'GET'
      const noteEnd = (how: JsonObject): void => {
        if (endAction) void audit.noteEnd(c, auditOfMount(endAction, access.mount, { ...access.details, ...how }))
      }
      let answer: IncomingMessage
      try {
        answer = await open(c, access, method)
      } catch (error) {
        noteEnd({ outcome: 'refused', bytes: 0, error_code: error instanceof HoldfastError ? error.code : 'INTERNAL' })
        throw error
      }
      const status = answer.statusCode ?? 200
      // Of what is set before, an answer that is not made by Hono has nothing.
      const headers = { ...headersOf(answer), 'x-request-id': c.get('requestId') }
      if (method === 'HEAD' || status === 304) {
        answer.resume()
        noteEnd({ outcome: 'completed', bytes: 0 })
        return new Response(null, { status, headers })
      }
      const body = streamOf(answer, {
        outgoing: c.env?.outgoing,
        signal: c.req.raw.signal,
        ended: ({ outcome, bytes }) => noteEnd({ outcome, bytes }),
        ...(piecesOf && { pieces: piecesOf(answer) }),
      })
      return new Response(body, { status, headers })
    },
  }
}

/** `MOVER_UNAVAILABLE` when it breaks off. */
async function textOf(answer: IncomingMessage): Promise<string> {
  let text = ''
  try {
    answer.setEncoding('utf8')
    for await (const piece of answer) {
      text += String(piece)
      if (text.length > JSON_MAX_CHARACTERS) throw new Error('the answer does not end')
    }
  } catch (cause) {
    throw new HoldfastError('MOVER_UNAVAILABLE', 'The mover broke off in the middle of its answer. Try again shortly.', { cause })
  }
  return text
}
