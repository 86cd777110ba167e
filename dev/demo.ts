/**
 * `npm run demo`: the main job on the embedded stack, as a story. A two-disk VM is backed up in full (its mover killed with `kill -9` in the
 * middle), changed, backed up incrementally, verified block by block, restored from both points and compared with the originals.
 * Where libvirt and QEMU are installed the VM is a running domain that goes on writing; else its disks are images that lie still.
 *
 * On a terminal it then keeps serving until Ctrl-C. With `--once`, or without a terminal, it ends with exit code 0 if every comparison held,
 * else 1. Everything lives in `<HOLDFAST_HOME>/demo`, which each run makes anew.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { HoldfastError } from '../domain/errors.ts'
import { homeFolders, readEnvironment } from '../runtime/environment.ts'
import { ApiClient } from './demo/api-client.ts'
import { buildDemoVm } from './demo/demo-vm.ts'
import type { DemoVm } from './demo/demo-vm.ts'
import { startImagePlatform } from './demo/image-platform.ts'
import { startLibvirtPlatform } from './demo/libvirt-platform.ts'
import { Narrator, secondsText, sizeText } from './demo/narrator.ts'
import { tellStory } from './demo/story.ts'
import type { VmPlatform } from './demo/vm-platform.ts'
import { accepts, freePort } from './ports.ts'
import { endDomains, libvirtObstacle } from './private-libvirt.ts'
import { startStack } from './stack.ts'
import type { Stack } from './stack.ts'
import { lockState } from './state-lock.ts'

const { values } = parseArgs({ options: { once: { type: 'boolean', default: false } } })
const staysOpen = process.stdout.isTTY && !values.once
const narrator = new Narrator()
const home = join(readEnvironment().home, 'demo')
const libvirtFolder = join(homeFolders(home).run, 'libvirt')
const interrupted = new AbortController()
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')))
process.once('SIGTERM', () => interrupted.abort(new Error('interrupted')))

let stack: Stack | undefined
let platform: VmPlatform | undefined
let held = false
try {
  const started = Date.now()
  await clearHome()
  stack = await startDemoStack()
  held = await Promise.race([runStory(stack), untilInterrupted()])
  narrator.step(held ? 'Every comparison held' : 'A COMPARISON FAILED')
  narrator.fact(`the whole demo took ${secondsText(Date.now() - started)}`)
  if (staysOpen) await keepServing(stack)
} catch (error) {
  if (!interrupted.signal.aborted)
    narrator.fact(error instanceof HoldfastError ? `${error.code}: ${error.message}` : String(error))
} finally {
  // First the domain: the stack empties the run folder, and with it goes the file that says which process it is.
  await platform?.stop()
  await endDomains(libvirtFolder)
  await stack?.stop()
}
process.exitCode = held ? 0 : 1

async function startDemoStack(): Promise<Stack> {
  narrator.step('Holdfast starts: MariaDB, Temporal, control worker, mover, API')
  const { apiPort } = readEnvironment()
  return startStack({
    home,
    apiPort: await portNear(apiPort),
    temporalPort: await portNear(7233),
    uiPort: await portNear(8233),
    signal: interrupted.signal,
    // Checkpoints and patience shorter than in real life, so that the crash costs seconds of your time.
    env: { HOLDFAST_CHECKPOINT_MS: '500', HOLDFAST_HEARTBEAT_TIMEOUT_MS: '5000' },
    onEvent: (event) => {
      if (event.kind === 'progress') narrator.progress(event.text)
      if (event.kind === 'ready') narrator.fact(`${event.service} is ready after ${secondsText(event.tookMs)} (pid ${event.pid})`)
      if (event.kind === 'restarted') narrator.fact(`${event.service} was started again (pid ${event.pid})`)
    },
  })
}

async function runStory(running: Stack): Promise<boolean> {
  narrator.fact(`API ${running.apiUrl}${running.uiUrl === null ? '' : `, Temporal Web UI ${running.uiUrl}`}`)
  if (running.firstAdmin === null)
    throw new HoldfastError('INTERNAL', `${home} already has users; the demo needs an empty catalog.`)
  const api = new ApiClient(`${running.apiUrl}/api/v1`)
  await api.login(running.firstAdmin.username, running.firstAdmin.password)

  narrator.step('A VM with two disks is built from real files')
  const folder = join(home, 'vm')
  const vm = await buildDemoVm(folder)
  narrator.fact(`${vm.name}: ${vm.files} files with ${sizeText(vm.fileBytes)} in all, in ${folder}`)
  for (const disk of vm.disks) narrator.fact(`  disk ${disk.index}: ${sizeText(disk.sizeBytes)}, ${disk.layout}`)
  platform = await startPlatform(vm)
  return tellStory({
    api,
    narrator,
    vm,
    platform,
    folder,
    repositoryFolder: homeFolders(home).repository,
    moverPid: () => pidOf(running, 'mover'),
  })
}

async function startPlatform(vm: DemoVm): Promise<VmPlatform> {
  const obstacle = await libvirtObstacle(home)
  if (obstacle !== null) {
    narrator.fact(`no live VM, because ${obstacle}: its disks are images that nobody writes to while they are backed up`)
    return startImagePlatform(vm)
  }
  const live = await startLibvirtPlatform(vm, { libvirt: libvirtFolder, scratch: join(homeFolders(home).run, 's') })
  narrator.fact('it runs: a domain of libvirt, with QCOW2 disks that it goes on writing to')
  narrator.fact('(it has no operating system: what a guest would write is written inside QEMU, past its processor)')
  return live
}

async function keepServing(running: Stack): Promise<void> {
  const { username, password } = running.firstAdmin!
  narrator.step('Holdfast keeps serving until Ctrl-C')
  narrator.fact(`API reference ${running.apiUrl}/api/v1/docs, user ${username}, password ${password}`)
  if (running.uiUrl !== null) narrator.fact(`workflows ${running.uiUrl}/namespaces/holdfast/workflows`)
  await untilInterrupted().catch(() => undefined)
}

function untilInterrupted(): Promise<never> {
  return new Promise((_, reject) => {
    const stop = (): void => reject(interrupted.signal.reason)
    if (interrupted.signal.aborted) stop()
    else interrupted.signal.addEventListener('abort', stop, { once: true })
  })
}

/** The demo begins with nothing, but never takes the state of another demo that runs. */
async function clearHome(): Promise<void> {
  const lock = await lockState(home, { pid: process.pid, url: 'about to start' })
  await lock.release()
  // A demo that was killed leaves its domain running.
  await endDomains(libvirtFolder)
  await rm(home, { recursive: true, force: true })
}

/** The usual port when it is free, so that the printed URLs look as in the manual; else any other. */
async function portNear(port: number): Promise<number> {
  return (await accepts(port)) ? freePort() : port
}

function pidOf(running: Stack, name: string): number {
  const found = running.processes().find((process) => process.name === name)
  if (!found) throw new HoldfastError('INTERNAL', `The ${name} does not run.`)
  return found.pid
}
