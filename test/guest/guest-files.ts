/** Where `dev/bootstrap.sh --tests` puts what the guest is made of: Debian's cloud kernel, its modules, busybox and the guest agent. */
import { existsSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeEach } from 'vitest'

const folder = resolve(import.meta.dirname, '../../.tools/guest')

/** For a test file or a `describe` block. In CI (`CI` is set) missing files fail its tests at once; other processors than the guest's are a lasting reason to skip. */
export function requireGuest(): void {
  if (process.arch !== 'x64') return beforeEach(({ skip }) => skip(`the guest's kernel is for x86-64, this is ${process.arch}`))
  if (existsSync(join(folder, 'holdfast-parts'))) return
  const reason = `needs the guest's kernel in ${folder} ("sh dev/bootstrap.sh --tests" brings it)`
  if (process.env['CI']) throw new Error(reason)
  beforeEach(({ skip }) => skip(reason))
}

export const busyboxPath = join(folder, 'bin/busybox')
export const agentPath = join(folder, 'usr/sbin/qemu-ga')

export function kernelPath(): string {
  return join(folder, 'boot', only('boot', 'vmlinuz-'))
}

/** Absolute path of a module by its path below `kernel/`. */
export function modulePath(name: string): string {
  return join(folder, 'lib/modules', only('lib/modules', ''), 'kernel', name)
}

function only(below: string, prefix: string): string {
  const name = readdirSync(join(folder, below)).find((found) => found.startsWith(prefix))
  if (name === undefined) throw new Error(`${folder}/${below} holds no ${prefix}…: remove ${folder} and set up again.`)
  return name
}
