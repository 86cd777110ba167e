/** The guest's agent, asked through libvirt as any other program would. */
import { vi } from 'vitest'
import type { PrivateLibvirt } from '../private-libvirt.ts'

/** Also for a guest that starts, on an emulated processor that it shares with other tests. */
const patience = { timeout: 240_000, interval: 200 }

export class GuestAgent {
  readonly #libvirt: PrivateLibvirt
  readonly #uuid: string

  constructor(libvirt: PrivateLibvirt, uuid: string) {
    this.#libvirt = libvirt
    this.#uuid = uuid
  }

  /** `thawed` or `frozen`. */
  freezeStatus(): Promise<string> {
    return this.#ask<string>({ execute: 'guest-fsfreeze-status' })
  }

  /** Runs a shell command in the guest, without waiting for its end. Resolves with its process id. */
  async run(script: string): Promise<number> {
    const command = { path: '/bin/sh', arg: ['-c', script], 'capture-output': true }
    return (await this.#ask<{ pid: number }>({ execute: 'guest-exec', arguments: command })).pid
  }

  /** Runs a shell command, again and again until it succeeds, and resolves with what it printed. */
  output(script: string): Promise<string> {
    return vi.waitFor(async () => {
      const pid = await this.run(script)
      const end = await vi.waitFor(() => this.#end(pid), patience)
      if (end.exitcode !== 0) throw new Error(`in the guest, "${script}" ended with ${end.exitcode}`)
      return Buffer.from(end['out-data'] ?? '', 'base64').toString()
    }, patience)
  }

  async #end(pid: number): Promise<{ exitcode?: number; 'out-data'?: string }> {
    const status = await this.#ask<{ exited: boolean; exitcode?: number; 'out-data'?: string }>({
      execute: 'guest-exec-status',
      arguments: { pid },
    })
    if (!status.exited) throw new Error(`in the guest, process ${pid} has not ended`)
    return status
  }

  async #ask<Answer>(request: object): Promise<Answer> {
    const answer = await this.#libvirt.ask('qemu-agent-command', this.#uuid, '--timeout', '20', JSON.stringify(request))
    return (JSON.parse(answer) as { return: Answer }).return
  }
}
