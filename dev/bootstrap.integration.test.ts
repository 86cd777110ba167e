/**
 * The set-up, run for real in a copy of the little that it needs: the script, a package-lock.json without packages, and the Temporal
 * of this checkout. Only "which Debian packages are there" is answered from another place: from an empty dpkg database.
 */
import { chmod, copyFile, cp, mkdir, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'
import type { ToolResult } from '../tools/run-tool.ts'

const checkout = resolve(import.meta.dirname, '..')
const NOBODY = '65534'
/** Only root can become somebody else. */
const isRoot = process.getuid?.() === 0

async function bareCheckout(): Promise<string> {
  const folder = await temporaryFolder()
  await chmod(folder, 0o777)
  await mkdir(join(folder, 'dev'))
  await mkdir(join(folder, '.tools'))
  await copyFile(join(checkout, 'dev/bootstrap.sh'), join(folder, 'dev/bootstrap.sh'))
  await cp(join(checkout, 'dev/toolchain'), join(folder, 'dev/toolchain'), { recursive: true })
  await symlink(join(checkout, '.tools/temporal'), join(folder, '.tools/temporal'))
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'bare', version: '1.0.0', private: true }))
  await writeLock(folder, {})
  return folder
}

async function writeLock(folder: string, dependencies: Record<string, string>): Promise<void> {
  const root = { name: 'bare', version: '1.0.0' }
  const manifest = { ...root, private: true, dependencies }
  await writeFile(join(folder, 'package.json'), JSON.stringify(manifest))
  await writeFile(join(folder, 'package-lock.json'), JSON.stringify({ ...root, lockfileVersion: 3, packages: { '': manifest } }))
}

/** Node 24 comes from npm packages, which these copies have none of: it is the one that runs the tests. */
function environment(extra: Record<string, string> = {}): Record<string, string> {
  return { PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, ...extra }
}

function bootstrap(folder: string, extra: Record<string, string> = {}): Promise<ToolResult> {
  const env = environment(extra)
  return runTool('sh', [join(folder, 'dev/bootstrap.sh')], { timeoutMs: 110_000, env, cwd: '/', allowExitCodes: [1] })
}

test('the first run says what it does, the second says nothing and takes less than a second', async () => {
  const folder = await bareCheckout()
  const first = await bootstrap(folder)
  expect(first).toMatchObject({ exitCode: 0, stdout: '' })
  expect(first.stderr).toMatch(/^holdfast: installing npm packages … 0 s\n.*done in \d+ s\n$/)

  const started = performance.now()
  expect(await bootstrap(folder)).toEqual({ exitCode: 0, stdout: '', stderr: '' })
  expect(performance.now() - started).toBeLessThan(1_000)
})

test('another package-lock.json is installed; so is one whose node_modules has vanished', async () => {
  const folder = await bareCheckout()
  await bootstrap(folder)
  await writeFile(join(folder, 'package-lock.json'), `${await readFile(join(folder, 'package-lock.json'), 'utf8')}\n`)
  expect((await bootstrap(folder)).stderr).toContain('installing npm packages')
  await rm(join(folder, 'node_modules'), { recursive: true })
  expect((await bootstrap(folder)).stderr).toContain('installing npm packages')
  expect((await bootstrap(folder)).stderr).toBe('')
})

test.skipIf(!isRoot)('who is not root is told the exact command, before anything slow is done', async () => {
  const folder = await bareCheckout()
  const emptyDpkg = join(folder, 'dpkg')
  await mkdir(join(emptyDpkg, 'info'), { recursive: true })
  await writeFile(join(emptyDpkg, 'status'), '')
  const command = ['--reuid', NOBODY, '--clear-groups', '--', 'sh', join(folder, 'dev/bootstrap.sh')]
  const env = environment({ DPKG_ADMINDIR: emptyDpkg, HOME: folder })
  const result = await runTool('setpriv', command, { timeoutMs: 10_000, env, allowExitCodes: [1] })
  expect(result.exitCode).toBe(1)
  expect(result.stderr).toMatch(
    /\n {4}sudo sh -c "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends qemu-utils .*mariadb-server-core .*fdisk"\n/,
  )
  expect(await readdir(folder)).not.toContain('node_modules')
})

test.skipIf(!isRoot)('who is not root but has everything needs no root', async () => {
  const folder = await bareCheckout()
  await bootstrap(folder)
  const command = ['--reuid', NOBODY, '--clear-groups', '--', 'sh', join(folder, 'dev/bootstrap.sh')]
  expect(await runTool('setpriv', command, { timeoutMs: 10_000, env: environment({ HOME: folder }) })).toMatchObject({
    exitCode: 0,
    stderr: '',
  })
})

test('a failing installer is shown by the end of its log, and the next run tries again', async () => {
  const folder = await bareCheckout()
  await writeLock(folder, { 'missing-package': 'file:./no-such-package.tgz' })
  const failed = await bootstrap(folder)
  expect(failed.exitCode).toBe(1)
  expect(failed.stderr).toMatch(
    /failed after \d+ s \(exit code \d+\)\. The end of .*\/\.tools\/npm\.log:\n[\s\S]*no-such-package[\s\S]*run the same command again/,
  )
  await writeLock(folder, {})
  expect((await bootstrap(folder)).exitCode).toBe(0)
})

test('an older Node installs Node 24 before anything else; without one for npm scripts, it says so', async () => {
  const folder = await bareCheckout()
  const older = join(folder, 'older')
  await mkdir(older)
  // npm must still run, so it is an older one in nothing but what it says.
  const script = `#!/bin/sh\n[ "$1" = -v ] && exec echo v22.1.0\nexec ${process.execPath} "$@"\n`
  await writeFile(join(older, 'node'), script, { mode: 0o755 })
  const result = await bootstrap(folder, { PATH: `${older}:${environment()['PATH']}` })
  expect((await runTool(join(folder, '.tools/node/bin/node'), ['-v'], { timeoutMs: 10_000 })).stdout).toMatch(/^v24\./)
  // These copies have no npm package that would bring it.
  expect(result.exitCode).toBe(1)
  expect(result.stderr).toMatch(
    /installing Node 24: done[\s\S]*node_modules\/\.bin\/node is not Node 24 and 'node' is v22\.1\.0\. Remove node_modules/,
  )
})

test('two at once: one works, the other waits and finds the work done', async () => {
  const folder = await bareCheckout()
  const both = await Promise.all([bootstrap(folder), bootstrap(folder)])
  expect(both.map((result) => result.exitCode)).toEqual([0, 0])
  const said = both.map((result) => result.stderr).join('')
  expect(said.match(/installing npm packages: done/g)).toHaveLength(1)
})

test('it names no registry', async () => {
  const script = await readFile(join(checkout, 'dev/bootstrap.sh'), 'utf8')
  expect(script).not.toMatch(/https?:|registry\s*=|index-url/)
  expect((await stat(join(checkout, 'dev/bootstrap.sh'))).mode & 0o111).not.toBe(0)
})
