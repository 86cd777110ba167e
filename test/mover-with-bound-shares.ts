/** A mover as `worker/mover.ts`, but its shares are bound folders, and it loses patience with them sooner. */
import '../worker/thread-pool.ts'
import { runMover } from '../worker/run-mover.ts'
import { boundShares } from './bound-shares.ts'
import { impatientDeadlines } from './impatient-deadlines.ts'

await runMover({ mounter: boundShares, deadlines: impatientDeadlines })
