/** Kills of what a restore mount consists of while a file is downloaded through the API, and how it must end. */
import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import type { MountedDisk, MountScenario } from './mount-scenario.ts'
import { programOfMount, programsOfMount, runFoldersOfMounts, tracesOnHost } from './mount-traces.ts'
import type { MountProgram } from './mount-traces.ts'
import { stillRunning } from './process-tree.ts'

/** How long a client may wait for the news, and what was killed may take to be gone. */
export const NEWS_MS = 5_000
/** A mover that is silent is waited for, then the disk is mounted again. */
const RECOVERED_MS = 90_000

export type Victim = MountProgram | 'mover'

export interface BrokenDownload {
  /** From the kill to the client's error. */
  brokenAfterMs: number
  /** What came before. */
  bytes: number
}

/**
 * Downloads the disk's file, kills `victim` after so many bytes and reads on. Requires that the client hears of it and that none of the mount's programs is left.
 * Between the mover and the client sockets hold up to some thirty MiB: the file must be larger.
 */
export async function killDuringDownload(
  scenario: MountScenario,
  disk: MountedDisk,
  { victim, afterBytes }: { victim: Victim; afterBytes: number },
): Promise<BrokenDownload> {
  const { holdfast } = scenario
  const moverPid = holdfast.pid('mover')
  const programs = await programsOfMount(moverPid, disk.mountId)
  const victimPid = victim === 'mover' ? moverPid : (await programOfMount(victim, moverPid, disk.mountId)).pid
  const body = bodyOf(await scenario.download(disk))
  let bytes = 0
  while (bytes < afterBytes) bytes += await nextOf(body)
  const killed = performance.now()
  if (victim === 'mover') await holdfast.kill('mover')
  else process.kill(victimPid, 'SIGKILL')
  let error: unknown
  try {
    for (let piece = -1; piece !== 0; bytes += piece) piece = await nextOf(body)
  } catch (cause) {
    error = cause
  }
  const brokenAfterMs = performance.now() - killed
  expect(error, `the download must not end well after ${bytes} bytes`).toBeInstanceOf(Error)
  await expect.poll(() => stillRunning(programs), { timeout: NEWS_MS }).toEqual([])
  if (victim === 'mover') {
    expect(await tracesOnHost(holdfast.home)).toEqual([])
    await holdfast.start('mover')
    expect(await runFoldersOfMounts(holdfast.home), 'the next mover clears up').not.toContainEqual(
      expect.stringContaining(`${moverPid}`),
    )
  }
  return { brokenAfterMs, bytes }
}

/** The lease goes on: the same mount, opened anew by itself, with the same file. */
export async function expectRecovered(scenario: MountScenario, disk: MountedDisk): Promise<void> {
  const sha256 = async (): Promise<string> => {
    const response = await scenario.download(disk)
    if (response.status !== 200) return `status ${response.status}: ${await response.text()}`
    return sha256Of(response)
  }
  await expect.poll(sha256, { timeout: RECOVERED_MS, interval: 250 }).toBe(disk.sha256)
  const { body } = await scenario.api.call<{ status: string }>('GET', `/restore/mounts/${disk.mountId}`)
  expect(body.status).toBe('mounted')
}

export async function sha256Of(response: Response): Promise<string> {
  const hash = createHash('sha256')
  try {
    for await (const piece of response.body ?? []) hash.update(piece)
  } catch (error) {
    return `broken off: ${String(error)}`
  }
  return hash.digest('hex')
}

function bodyOf(response: Response): ReadableStreamDefaultReader<Uint8Array> {
  if (response.status !== 200 || !response.body) throw new Error(`the download was answered with ${response.status}`)
  return response.body.getReader()
}

/** Bytes of the next piece; 0 at the end. */
async function nextOf(body: ReadableStreamDefaultReader<Uint8Array>): Promise<number> {
  const { value } = await body.read()
  return value?.length ?? 0
}
