/** What the API is given, and what its requests carry. */
import type { HttpBindings } from '@hono/node-server'
import type { Catalog } from '../db/client.ts'
import type { Logger } from '../runtime/logger.ts'
import type { LoginThrottle } from '../security/login-throttle.ts'
import type { Session, Sessions } from '../security/sessions.ts'
import type { Operations } from '../temporal/operations.ts'
import type { MoverFiles } from './mover-files.ts'

export interface ApiDependencies {
  catalog: Catalog
  operations: Operations
  sessions: Sessions
  throttle: LoginThrottle
  logger: Logger
  /** The host meant when a request names none. */
  hostId: string
  /** Where the key lies that credentials are sealed with; movers of the host use the same. */
  keysFolder: string
  /** The way to the files of restore mounts. */
  moverFiles: MoverFiles
  /** How long a restore mount lasts after its last access, and at most. */
  mountLease: { idleMs: number; maximumMs: number }
  /** For so long it is believed what a look at a repository found. */
  staleAfterMs: number
  now: () => Date
}

/** What looks at repositories found before this says nothing about now. */
export function staleBefore({ now, staleAfterMs }: Pick<ApiDependencies, 'now' | 'staleAfterMs'>): Date {
  return new Date(now().getTime() - staleAfterMs)
}

export interface ApiEnv {
  /** Absent when the app is called without a server, as tests do. */
  Bindings: Partial<HttpBindings>
  Variables: {
    requestId: string
    /** Set on every route but the open ones. */
    session: Session
  }
}
