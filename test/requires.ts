/** Tests that need a program say so: CI has it or fails; elsewhere the tests are skipped, with the reason in the report. */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { beforeEach } from 'vitest'

/** For a test file or a `describe` block, before its tests. In CI (`CI` is set) a missing program fails them at once. */
export function requireTool(program: string): void {
  if (isInstalled(program)) return
  const reason = `needs "${program}", which is not installed ("npm run bootstrap -- --tests" installs it)`
  if (process.env['CI']) throw new Error(reason)
  beforeEach(({ skip }) => skip(reason))
}

function isInstalled(program: string): boolean {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return folders.some((folder) => isExecutable(join(folder, program)))
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
