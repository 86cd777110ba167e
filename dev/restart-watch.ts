import { EventEmitter } from 'node:events'
import { HoldfastError } from '../domain/errors.ts'
import type { ServiceName } from './stack-recipes.ts'

/** Lets callers wait for the restart of a service they know to be gone, or are about to kill. */
export class RestartWatch {
  readonly #events = new EventEmitter()

  note(event: { service: ServiceName; pid: number }): void {
    this.#events.emit('restarted', event)
  }

  end(): void {
    this.#events.emit('ended')
  }

  after(name: ServiceName, previousPid: number, currentPid: number | null): Promise<number> {
    if (currentPid !== null && currentPid !== previousPid) return Promise.resolve(currentPid)
    return new Promise((resolve, reject) => {
      const onRestart = (event: { service: ServiceName; pid: number }): void => {
        if (event.service === name) settle(() => resolve(event.pid))
      }
      const onEnd = (): void =>
        settle(() => reject(new HoldfastError('CANCELLED', `The stack was stopped before ${name} ran again.`)))
      const settle = (how: () => void): void => {
        this.#events.off('restarted', onRestart)
        this.#events.off('ended', onEnd)
        how()
      }
      this.#events.on('restarted', onRestart)
      this.#events.on('ended', onEnd)
    })
  }
}
