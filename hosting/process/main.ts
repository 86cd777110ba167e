/**
 * The process in which everything that touches the files of one repository is done: `main.ts <repository id> <root>`. It may hang in a system
 * call at any time, for as long as the storage likes; the mover does not wait for it, and kills it. It ends with the mover.
 */
import { HoldfastError } from '../../domain/errors.ts'
import { toPortable } from '../../domain/portable-error.ts'
import { repositoryAt } from '../../repositories/registry.ts'
import { measureStorage } from '../../repositories/storage-probe.ts'
import { localDisks, localTargets } from '../local-disks.ts'
import { runVerb, type Verb } from '../verbs.ts'
import type { Call, FromProcess, ToProcess } from './messages.ts'
import { becomeSoleOwner } from './sole-owner.ts'

const [, , id, root] = process.argv
if (id === undefined || root === undefined || process.send === undefined) {
  throw new HoldfastError('INTERNAL', 'This file is the entry of a process that a mover starts.')
}
// Whoever asks for the space has a time limit of its own, and must hear when the answer comes after all.
const repository = Object.assign(repositoryAt(root, { id, type: 'local' }), { storage: () => measureStorage(root) })
const work = { repository, disks: localDisks, targets: localTargets }

// Who stops is told by the mover, when it is done with us. A normal exit would wait for system calls under way, which may never come back.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
process.on('uncaughtException', (error) => {
  process.stderr.write(`${error.stack ?? error.message}\n`)
  process.kill(process.pid, 'SIGKILL')
})

const alone = becomeSoleOwner(id)
const running = new Map<number, AbortController>()
process.on('message', (message: ToProcess) => {
  if (message.type === 'abort') running.get(message.id)?.abort(new HoldfastError('CANCELLED', 'The work was stopped.'))
  else void answer(message)
})
await alone
tell({ type: 'ready' })

async function answer({ id: call, verb, input }: Call<Verb>): Promise<void> {
  const stop = new AbortController()
  running.set(call, stop)
  try {
    await alone
    const onProgress = (progress: unknown): void => tell({ type: 'progress', id: call, progress })
    const output = await runVerb(work, verb, input, { signal: stop.signal, onProgress })
    tell({ type: 'done', id: call, output })
  } catch (error) {
    tell({ type: 'failed', id: call, failure: toPortable(error, 'The process of a repository') })
  } finally {
    running.delete(call)
  }
}

function tell(message: FromProcess): void {
  process.send?.(message)
}
