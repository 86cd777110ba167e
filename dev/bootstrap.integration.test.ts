/**
 * The set-up, run for real in a copy of the little that it needs: the script, a package-lock.json without packages, and what Python
 * installs of this checkout. Only "which Debian packages are there" is answered from another place: from an empty dpkg database.
 */
import { chmod, chown, copyFile, cp, mkdir, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { runTool } from '../tools/run-tool.ts'
import type { ToolResult } from '../tools/run-tool.ts'

const checkout = resolve(import.meta.dirname, '..')
const NOBODY = '65534'
/** 0.1 s when nothing else runs. */
const NO_TIME_MS = 3_000
/** Only root can become somebody else. */
const isRoot = process.getuid?.() === 0

/** `.tools/guest` as a finished set-up leaves it, without its content. */
async function withGuest(folder: string): Promise<void> {
  const script = await readFile(join(folder, 'dev/bootstrap.sh'), 'utf8')
  await mkdir(join(folder, '.tools/guest'))
  await writeFile(join(folder, '.tools/guest/holdfast-parts'), `${/^guest_parts='(.*)'$/m.exec(script)?.[1]}\n`)
}

async function bareCheckout(): Promise<string> {
  const folder = await temporaryFolder()
  await chmod(folder, 0o777)
  await mkdir(join(folder, 'dev'))
  await mkdir(join(folder, '.tools'))
  await copyFile(join(checkout, 'dev/bootstrap.sh'), join(folder, 'dev/bootstrap.sh'))
  await cp(join(checkout, 'dev/toolchain'), join(folder, 'dev/toolchain'), { recursive: true })
  for (const installed of ['temporal', 'fuse'])
    await symlink(join(checkout, '.tools', installed), join(folder, '.tools', installed))
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

function bootstrap(folder: string, extra: Record<string, string> = {}, ...options: string[]): Promise<ToolResult> {
  const env = environment(extra)
  return runTool('sh', [join(folder, 'dev/bootstrap.sh'), ...options], {
    timeoutMs: 110_000,
    env,
    cwd: '/',
    allowExitCodes: [1, 2],
  })
}

/** A PATH on which these shell scripts stand in for programs. */
async function withPrograms(folder: string, programs: Record<string, string>): Promise<string> {
  await mkdir(join(folder, 'programs'))
  for (const [name, script] of Object.entries(programs))
    await writeFile(join(folder, 'programs', name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return `${join(folder, 'programs')}:${environment()['PATH']}`
}

/** A database in which no package is installed, for DPKG_ADMINDIR. */
async function emptyDpkg(folder: string): Promise<string> {
  const path = join(folder, 'dpkg')
  await mkdir(join(path, 'info'), { recursive: true })
  await writeFile(join(path, 'status'), '')
  return path
}

function asNobody(folder: string, extra: Record<string, string> = {}): (...options: string[]) => Promise<ToolResult> {
  const command = ['--reuid', NOBODY, '--clear-groups', '--', 'sh', join(folder, 'dev/bootstrap.sh')]
  const env = environment({ HOME: folder, ...extra })
  return (...options) => runTool('setpriv', [...command, ...options], { timeoutMs: 10_000, env, allowExitCodes: [1] })
}

test('the first run says what it does, the second says nothing and takes no time to speak of', async () => {
  const folder = await bareCheckout()
  const first = await bootstrap(folder)
  expect(first).toMatchObject({ exitCode: 0, stdout: '' })
  expect(first.stderr).toMatch(/^holdfast: installing npm packages … 0 s\n.*done in \d+ s\n$/)

  const started = performance.now()
  expect(await bootstrap(folder)).toEqual({ exitCode: 0, stdout: '', stderr: '' })
  expect(performance.now() - started).toBeLessThan(NO_TIME_MS)
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

test('the second run for the tests says nothing either', async () => {
  const folder = await bareCheckout()
  await withGuest(folder)
  await bootstrap(folder, {}, '--tests')
  const started = performance.now()
  expect(await bootstrap(folder, {}, '--tests')).toEqual({ exitCode: 0, stdout: '', stderr: '' })
  expect(performance.now() - started).toBeLessThan(NO_TIME_MS)
})

test('an option that it does not know ends it before anything is done', async () => {
  const folder = await bareCheckout()
  const result = await bootstrap(folder, {}, '--test')
  expect(result.exitCode).toBe(2)
  expect(result.stderr).toContain('does not know "--test"')
  expect(await readdir(folder)).not.toContain('node_modules')
})

test.skipIf(!isRoot)('who is not root is told the exact command, before anything slow is done', async () => {
  const folder = await bareCheckout()
  const start = asNobody(folder, { DPKG_ADMINDIR: await emptyDpkg(folder) })
  const result = await start()
  expect(result.exitCode).toBe(1)
  expect(result.stderr).toMatch(/missing: qemu-utils .*mariadb-server-core .*fdisk.*\n/)
  expect(result.stderr).toContain(`in ${folder}, then the same command again:\n\n    sudo sh dev/bootstrap.sh --packages-only\n`)
  expect(result.stderr).not.toContain('libvirt-daemon')
  expect(await readdir(folder)).not.toContain('node_modules')

  const forTests = await start('--tests', '--bench')
  expect(forTests.stderr).toMatch(/missing: qemu-utils .*fuse3 .*openssh-server.* virtnbdbackup\n/)
  expect(forTests.stderr).toContain('\n    sudo sh dev/bootstrap.sh --packages-only --tests --bench\n')
})

test.skipIf(!isRoot)('who is not root but has everything needs no root', async () => {
  const folder = await bareCheckout()
  await bootstrap(folder)
  expect(await asNobody(folder)()).toMatchObject({ exitCode: 0, stderr: '' })
})

test.skipIf(!isRoot)('root installs the packages for somebody else, and nothing of it stands in that one’s way', async () => {
  const folder = await bareCheckout()
  await rm(join(folder, '.tools/temporal'))
  await chown(folder, Number(NOBODY), Number(NOBODY))
  await chown(join(folder, '.tools'), 0, 0)
  const path = await withPrograms(folder, {
    'apt-get': '[ "$1" = update ] || echo "installed: $*"',
    dpkg: 'exit 0',
    'update-rc.d': 'echo "update-rc.d $*"',
  })
  const result = await bootstrap(folder, { PATH: path, DPKG_ADMINDIR: await emptyDpkg(folder) }, '--packages-only', '--tests')
  expect(result.exitCode).toBe(0)
  expect(result.stderr).not.toContain('npm')
  const log = await readFile(join(folder, '.tools/apt.log'), 'utf8')
  expect(log).toMatch(/installed: install -y --no-install-recommends .*fuse3.*openssh-server/)
  expect(log).toContain('update-rc.d ssh disable')
  expect((await stat(join(folder, '.tools'))).uid).toBe(Number(NOBODY))
})

test('the guest’s packages are unpacked; lists of packages that are too old are renewed first', async () => {
  const folder = await bareCheckout()
  const path = await withPrograms(folder, {
    'apt-cache': `[ -e "${folder}/listed" ] && echo "  Depends: linux-image-6.1.0-99-cloud-amd64"; exit 0`,
    'apt-get': `case "$1" in update) touch "${folder}/listed" ;; download) shift; for p; do touch "$p.deb"; done ;; esac`,
    'dpkg-deb': 'echo "unpacked $2"',
    uname: '[ "$1" = -m ] && echo x86_64 || exec /bin/uname "$@"',
  })
  expect((await bootstrap(folder, { PATH: path }, '--tests')).stderr).toContain('kernel for the tests’ guest: done')
  const log = await readFile(join(folder, '.tools/guest.log'), 'utf8')
  expect(log).toContain('apt knows no package linux-image-cloud-amd64')
  for (const part of ['linux-image-6.1.0-99-cloud-amd64', 'busybox-static', 'qemu-guest-agent'])
    expect(log).toMatch(new RegExp(`unpacked .*/${part}\\.deb`))
  expect((await bootstrap(folder, { PATH: path }, '--tests')).stderr).toBe('')
})

test('another processor than the guest’s is no reason to fail', async () => {
  const folder = await bareCheckout()
  const path = await withPrograms(folder, { uname: '[ "$1" = -m ] && echo aarch64 || exec /bin/uname "$@"' })
  expect(await bootstrap(folder, { PATH: path }, '--tests')).toMatchObject({ exitCode: 0 })
  expect(await readdir(join(folder, '.tools'))).not.toContain('guest')
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
