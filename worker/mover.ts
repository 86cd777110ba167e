/** The process of a data host's mover. */
import './thread-pool.ts'
import { runMover } from './run-mover.ts'

await runMover()
