import { randomBytes } from 'node:crypto'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../../test/temporary-folder.ts'
import { startTool } from '../../tools/run-tool.ts'
import type { LibvirtConnection } from './connection.ts'
import { BEGIN_TIMED_OUT, runBeginScript, type BeginScript, type BegunScript } from './freeze.ts'

/** A `virsh` of the test's own, found before the real one: a guest agent that behaves as it is told. */
async function withVirsh<T>(
  body: string,
  use: (folder: string) => Promise<T>,
): Promise<{ result: T; calls: () => Promise<string[]> }> {
  const folder = await temporaryFolder()
  const program = join(folder, 'virsh')
  await writeFile(program, `#!/bin/sh\necho "$4" >>"${folder}/calls"\ncase $4 in\n${body}\nesac\n`)
  await chmod(program, 0o755)
  const calls = async (): Promise<string[]> => (await readFile(join(folder, 'calls'), 'utf8')).trim().split('\n')
  return { result: await use(folder), calls }
}

async function begin(folder: string, changes: Partial<BeginScript> = {}): Promise<BegunScript> {
  const connection = {
    withUri: (work: (uri: string) => Promise<unknown>) => work(`test:///${folder}`),
  } as unknown as LibvirtConnection
  const path = process.env['PATH'] ?? ''
  return runBeginScript({
    connection,
    uuid: 'the-uuid',
    freeze: true,
    backupXml: (outcome) => `<backup outcome="${outcome}" quote="'$(touch pwned)"/>`,
    checkpointXml: '<checkpoint/>',
    limits: { freezeS: 1, beginS: 2, thawS: 1 },
    env: { PATH: `${folder}:${path}` },
    ...changes,
  })
}

/** Keeps what libvirt was given. */
const keepXml = `backup-begin) cp "$7" "$(dirname "$0")/backup.xml"; [ -z "$9" ] || cp "$9" "$(dirname "$0")/checkpoint.xml" ;;`

it('freezes, begins and thaws, in this order', async () => {
  let folder = ''
  const { result, calls } = await withVirsh(keepXml, (at) => begin((folder = at)))
  expect(result).toEqual({ outcome: 'frozen', failure: null, thawed: true })
  expect(await calls()).toEqual(['domfsfreeze', 'backup-begin', 'domfsthaw'])
  expect(await readFile(join(folder, 'backup.xml'), 'utf8')).toBe(`<backup outcome="frozen" quote="'$(touch pwned)"/>`)
  expect(await readFile(join(folder, 'checkpoint.xml'), 'utf8')).toBe('<checkpoint/>')
})

it('asks nobody when there is no agent', async () => {
  let folder = ''
  const { result, calls } = await withVirsh(keepXml, (at) => begin((folder = at), { freeze: 'no-agent', checkpointXml: null }))
  expect(result).toEqual({ outcome: 'no-agent', failure: null, thawed: true })
  expect(await calls()).toEqual(['backup-begin'])
  expect(await readFile(join(folder, 'backup.xml'), 'utf8')).toContain('outcome="no-agent"')
})

it.each([
  ['refuses', 'domfsfreeze) exit 1 ;;', 'refused'],
  ['hangs', 'domfsfreeze) sleep 60 ;;', 'silent'],
])('begins, and thaws, when the agent %s', async (_how, body, outcome) => {
  const startedAt = Date.now()
  let folder = ''
  const { result, calls } = await withVirsh(`${body}\n${keepXml}`, (at) => begin((folder = at)))
  expect(Date.now() - startedAt).toBeLessThan(40_000)
  expect(result).toEqual({ outcome, failure: null, thawed: true })
  expect(await calls()).toEqual(['domfsfreeze', 'backup-begin', 'domfsthaw'])
  expect(await readFile(join(folder, 'backup.xml'), 'utf8')).toContain(`outcome="${outcome}"`)
})

it('thaws when the begin fails or hangs, and says what libvirt said', async () => {
  const refused = await withVirsh('backup-begin) echo "error: no, $(id -u)" >&2; exit 1 ;;', (folder) => begin(folder))
  expect(refused.result).toMatchObject({ outcome: 'frozen', failure: expect.stringMatching(/^error: no, \d+$/), thawed: true })
  expect(await refused.calls()).toEqual(['domfsfreeze', 'backup-begin', 'domfsthaw'])
  const hung = await withVirsh('backup-begin) sleep 60 ;;', (folder) => begin(folder))
  expect(hung.result).toMatchObject({ failure: BEGIN_TIMED_OUT, thawed: true })
  expect(await hung.calls()).toContain('domfsthaw')
})

it('goes on thawing in the background until it is confirmed, without keeping the backup waiting', async () => {
  const body = 'domfsthaw) [ "$(grep -c thaw "$(dirname "$0")/calls")" -ge 3 ] ;;'
  const { result, calls } = await withVirsh(body, (folder) => begin(folder))
  expect(result).toEqual({ outcome: 'frozen', failure: null, thawed: false })
  await expect.poll(async () => (await calls()).filter((call) => call === 'domfsthaw').length, { timeout: 60_000 }).toBe(3)
})

it('thaws although the process that froze is killed', async () => {
  const marker = randomBytes(4).toString('hex')
  const folder = await temporaryFolder()
  const body = `domfsfreeze) touch "${folder}/frozen"; sleep 1 ;;\ndomfsthaw) touch "${folder}/thawed" ;;`
  await writeFile(join(folder, 'virsh'), `#!/bin/sh\ncase $4 in\n${body}\nesac\n`)
  await chmod(join(folder, 'virsh'), 0o755)
  const program = `
    const { runBeginScript } = await import(${JSON.stringify(join(import.meta.dirname, 'freeze.ts'))})
    await runBeginScript({ connection: { withUri: (work) => work('test:///${marker}') }, uuid: 'u', freeze: true, backupXml: () => '<b/>',
      checkpointXml: null, limits: { freezeS: 5, beginS: 5, thawS: 5 }, env: { PATH: ${JSON.stringify(`${folder}:${process.env['PATH']}`)} } })`
  const child = startTool(process.execPath, ['--input-type=module', '--eval', program])
  const seen = (name: string): Promise<boolean> =>
    readFile(join(folder, name)).then(
      () => true,
      () => false,
    )
  await expect.poll(() => seen('frozen'), { timeout: 60_000 }).toBe(true)
  await child.stop(0)
  expect(await seen('thawed')).toBe(false)
  await expect.poll(() => seen('thawed'), { timeout: 60_000 }).toBe(true)
})
