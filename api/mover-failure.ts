/** What a mover's file service says when it refuses or fails, as one of our errors. */
import type { IncomingMessage } from 'node:http'
import { HoldfastError, isErrorCode } from '../domain/errors.ts'
import type { ErrorCode, JsonObject, JsonValue } from '../domain/errors.ts'

const FAILURE_MAX_BYTES = 256 * 1024

/** An answer without a body tells no more than its status: enough for one that has no body either. */
const codeOfStatus: Partial<Record<number, ErrorCode>> = {
  400: 'FILE_PATH_INVALID',
  404: 'FILE_NOT_FOUND',
  409: 'NOT_A_FILE',
  416: 'RANGE_NOT_SATISFIABLE',
  422: 'FILE_SYSTEM_UNREADABLE',
  502: 'FILE_READ_FAILED',
  503: 'MOUNT_NOT_READY',
}

/** Reads the rest of `answer`, which is signed and whose status is 400 or more: that a mover let nobody in never comes here. A code that we do not know is `INTERNAL`. */
export async function moverFailure(answer: IncomingMessage, method: string): Promise<HoldfastError> {
  const status = answer.statusCode ?? 0
  if (method === 'HEAD') {
    answer.resume()
    return new HoldfastError(codeOfStatus[status] ?? 'INTERNAL', `The mover answered with status ${status}.`)
  }
  const said = await readFailure(answer)
  if (!isErrorCode(said.code)) return new HoldfastError('INTERNAL', `The mover answered with status ${status}: ${said.message}`)
  return new HoldfastError(said.code, said.message, { details: said.details })
}

async function readFailure(answer: IncomingMessage): Promise<{ code: unknown; message: string; details: JsonObject }> {
  const nothing = { code: undefined, message: 'nothing that can be read', details: {} }
  let text = ''
  try {
    answer.setEncoding('utf8')
    for await (const piece of answer) {
      text += String(piece)
      if (text.length > FAILURE_MAX_BYTES) return nothing
    }
    const said: JsonValue = JSON.parse(text)
    if (typeof said !== 'object' || said === null || Array.isArray(said)) return nothing
    const { code, message, details } = said
    const isObject = typeof details === 'object' && details !== null && !Array.isArray(details)
    return { code, message: typeof message === 'string' ? message : nothing.message, details: isObject ? details : {} }
  } catch {
    // Cut off, or no JSON: that it failed is known, why is in the mover's log.
    return nothing
  }
}
