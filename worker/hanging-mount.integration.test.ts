/** A restore mount whose repository stops answering while a file is read: the mover can be stopped all the same. */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createFaultFileSystem, type FaultFileSystem } from '../test/fault-file-system.ts'
import { createMountScenario, type MountScenario } from '../test/mount-scenario.ts'
import { descendantsOf, stillRunning } from '../test/process-tree.ts'
import { requireTool } from '../test/requires.ts'
import { runTool } from '../tools/run-tool.ts'

requireTool('qemu-nbd')
requireTool('linux.uml')
requireTool('bwrap')

let system: FaultFileSystem
let scenario: MountScenario
beforeAll(async () => {
  system = await createFaultFileSystem()
  scenario = await createMountScenario({ disks: 1, fileBytes: 16 * 1024 ** 2, repositoryPath: `${system.folder}/repository` })
})
afterAll(async () => {
  await system?.setFaults()
  await scenario?.close()
  await system?.close()
})

/** By where its threads wait in the kernel: until they are killed they look as if they slept. */
async function hangs(pid: number): Promise<boolean> {
  const { stdout } = await runTool('sh', ['-c', `cat /proc/${pid}/task/*/wchan 2>/dev/null || true`], { timeoutMs: 10_000 })
  return stdout.includes('request_wait_answer')
}

it('whose exporter hangs in a read holds neither the end of the mover nor anything after it', async () => {
  const [disk] = scenario.disks
  if (!disk) throw new Error('one disk')
  await scenario.mount(disk)
  const pid = scenario.holdfast.pid('mover')
  const programs = await descendantsOf(pid)
  await system.setFaults({ hang: true })
  const answer = scenario
    .download(disk)
    .then(async (response) => ({ status: response.status, bytes: (await response.arrayBuffer()).byteLength }))
    .catch(() => 'broken off')
  const hanging = async (): Promise<boolean> => (await Promise.all(programs.map((program) => hangs(program.pid)))).includes(true)
  await expect.poll(hanging, { timeout: 20_000 }).toBe(true)
  expect(await scenario.holdfast.stop('mover')).toBeLessThan(20_000)
  expect(await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => 'gone')).toBe('gone')
  // Never a file that looks whole.
  expect(await answer).not.toMatchObject({ status: 200 })
  await system.setFaults()
  await expect.poll(() => stillRunning(programs)).toEqual([])
}, 120_000)
