/** The driver `user-mode-linux`: a chain's newest disk in a room, and a kernel in a sandbox that reads it. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../../domain/errors.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import { unexpectedExit, type RunningTool } from '../../tools/run-tool.ts'
import { closeOnce } from '../close-once.ts'
import { NOBODY } from '../nobody.ts'
import type { OpenRestoreMount, RestoreMount } from '../restore-mount.ts'
import { openRoom, type Room } from '../room.ts'
import { volumesIn } from './answers.ts'
import { Connection } from './connection.ts'
import { endSandbox, rememberSandbox } from './sandbox-end.ts'
import { nextProcessor } from './processors.ts'
import { ReaderProgram, type ReaderFiles } from './reader-program.ts'
import { createReader } from './reader.ts'
import { startKernel } from './sandbox.ts'
import type { KernelFiles } from './sandbox.ts'
import { startFailure } from './start-failure.ts'
import { Window, WINDOW_BYTES } from './window.ts'

/** Sparse. What journals write when they are replayed; parted by `guest/file-systems.pl`. */
const OVERLAY_BYTES = 1024 * 1024 * 1024
/** Of memory, at the most: the window, and what is really written to the overlay. */
const ROOM_BYTES = WINDOW_BYTES + 256 * 1024 * 1024
/** A start takes two seconds; many at once on a busy host, many more. */
const START_MS = 60_000
/** As `guest/volume-managers.pl` says it. */
const ERESTART = 85
/** Opening what is on the disk; the reader's own limit is shorter. */
const VOLUMES_MS = 60_000

export interface UserModeLinuxOptions {
  /** A folder of the mount's id is made below it, and removed in the end. */
  runFolder: string
  cacheFolder: string
  /** How long the kernel may take to start. */
  startTimeoutMs?: number
}

/** Opens mounts with the promises of `OpenRestoreMount`, except that a disk without a readable volume is opened too. */
export function createUserModeLinux(options: UserModeLinuxOptions): OpenRestoreMount {
  const program = new ReaderProgram(options.cacheFolder)
  return async (request, signal) => {
    const files = await program.prepare()
    const folder = join(options.runFolder, request.mountId)
    const { links, checkChain } = request
    const room = await openRoom({ links, checkChain, folder, tmpfsBytes: ROOM_BYTES, owner: NOBODY }, signal)
    const opening = new Opening(room)
    const starting = new AbortController()
    const abort = (): void => starting.abort(signal?.reason)
    signal?.addEventListener('abort', abort)
    try {
      const start = { ...files, startMs: options.startTimeoutMs ?? START_MS }
      const mount = await opening.mount(request.mountId, start, starting.signal)
      signal?.throwIfAborted()
      return mount
    } catch (error) {
      await opening.end()
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }
}

interface Begun {
  connection: Connection
  volumes: Volume[]
}

/** What was acquired so far, so that all of it can be ended at any time. */
class Opening {
  readonly #room: Room
  #window: Window | null = null
  #kernel: RunningTool | null = null

  constructor(room: Room) {
    this.#room = room
  }

  async mount(mountId: string, start: ReaderFiles & { startMs: number }, signal: AbortSignal): Promise<RestoreMount> {
    const room = this.#room
    const window = (this.#window = await Window.create(room.hostPath('window'), NOBODY))
    await makeOverlay(room.hostPath('overlay'))
    const { connection, volumes } = await this.#begin(start, signal)
    const close = (): Promise<void> => {
      connection.fail(closed())
      return this.end()
    }
    const reader = createReader({ connection, window, volumes, close })
    let isClosed = false
    const failed = connection.failed.then(async (error) => {
      // The reason is what matters; what could not be ended now, a later close tells.
      await this.end().catch(() => undefined)
      return isClosed ? new Promise<never>(() => undefined) : error
    })
    const closeMount = (): Promise<void> => {
      isClosed = true
      return close()
    }
    return {
      mountId,
      driver: 'user-mode-linux',
      reader: { ...reader, failed, close: closeMount },
      device: room.device,
      folder: room.folder,
      failed,
      close: closeMount,
    }
  }

  /** The kernel that starts fast reads nearly every disk; the whole one is for those of which the reader says so. */
  async #begin(start: ReaderFiles & { startMs: number }, signal: AbortSignal): Promise<Begun> {
    const begun = await this.#beginWith('fast', start, signal)
    if (begun) return begun
    if (this.#kernel) await endSandbox(this.#kernel)
    signal.throwIfAborted()
    const whole = await this.#beginWith('whole', start, signal)
    if (whole) return whole
    throw new HoldfastError('TOOL_FAILED', 'The reader asked for the whole kernel, which it had.')
  }

  /** Nothing when the reader needs the other kernel. */
  async #beginWith(
    kernelStart: KernelFiles['start'],
    { initramfs, programs, startMs }: ReaderFiles & { startMs: number },
    signal: AbortSignal,
  ): Promise<Begun | undefined> {
    const processor = await nextProcessor()
    const places = { room: this.#room, initramfs, programs, window: 'window', overlay: 'overlay' }
    const kernel = (this.#kernel = startKernel({ ...places, processor, start: kernelStart }, signal))
    const connection = connect(kernel, this.#room)
    await connection.greeted(startMs).catch((error: unknown) => {
      throw startFailure(kernel, error)
    })
    await rememberSandbox(kernel)
    const volumes = await askVolumes(connection)
    return volumes && { connection, volumes }
  }

  /** Idempotent. The kernel first: it holds the room's disk open. */
  readonly end = closeOnce(async () => {
    if (this.#kernel) await endSandbox(this.#kernel)
    await this.#window?.close()
    await this.#room.close()
  })
}

function connect(kernel: RunningTool, room: Room): Connection {
  if (!kernel.channel) throw new HoldfastError('INTERNAL', 'The kernel was started without a line.')
  const connection = new Connection(kernel.channel)
  void kernel.exited.then(async () => connection.fail(interrupted(await unexpectedExit(kernel))))
  void room.failed.then((error) => connection.fail(error))
  return connection
}

/** Nothing when there is something on the disk that only the whole kernel reads. */
async function askVolumes(connection: Connection): Promise<Volume[] | undefined> {
  const { errno, payload } = await connection.ask('V', [], VOLUMES_MS)
  if (errno === 0) return volumesIn(payload)
  if (errno === ERESTART) return undefined
  throw new HoldfastError('TOOL_FAILED', `The disk's volumes could not be found: the reader answered with error ${errno}.`, {
    details: { errno, said: payload.toString('utf8').slice(0, 500) },
  })
}

async function makeOverlay(path: string): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(OVERLAY_BYTES)
    await file.chown(NOBODY.uid, NOBODY.gid)
  } finally {
    await file.close()
  }
}

function interrupted(cause: HoldfastError): HoldfastError {
  return new HoldfastError(
    'MOUNT_INTERRUPTED',
    'What reads the file systems of this backup has ended. The mount is opened again.',
    {
      cause,
    },
  )
}

function closed(): HoldfastError {
  return new HoldfastError('MOUNT_INTERRUPTED', 'The backup was unmounted.')
}
