import { bodyLimit } from 'hono/body-limit'
import type { MiddlewareHandler } from 'hono'
import { HoldfastError } from '../../domain/errors.ts'
import type { ApiEnv } from '../dependencies.ts'

/** The longest honest body registers a VM with 64 disks of long paths. */
export const BODY_MAX_BYTES = 256 * 1024

/** `BODY_TOO_LARGE`, before anything is parsed. */
export function limitBody(): MiddlewareHandler<ApiEnv> {
  return bodyLimit({
    maxSize: BODY_MAX_BYTES,
    onError: () => {
      throw new HoldfastError('BODY_TOO_LARGE', `The body is longer than ${BODY_MAX_BYTES} bytes.`, {
        details: { max_bytes: BODY_MAX_BYTES },
      })
    },
  })
}
