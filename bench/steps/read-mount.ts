/** Opens a mount, lists its root, and reads what it is told to. Prints how long each took. */
import type { Volume } from '../../domain/restore-mount.ts'
import { HoldfastError } from '../../domain/errors.ts'
import type { FileReader } from '../../mounts/file-reader.ts'
import { createMountOpener } from '../../mounts/open-restore-mount.ts'
import { stepArgument } from './step-input.ts'
import type { MountStep, MountTimes } from './step-input.ts'

const PAGE = { first: 0, most: 1_000 }

const step: MountStep = JSON.parse(stepArgument)
const open = createMountOpener({ driver: step.driver, runFolder: step.runFolder, cacheFolder: step.cacheFolder })

let times: MountTimes = { firstListing: 0, page: null, read: null }
let began = performance.now()
const mount = await open({ mountId: 'bench', links: step.links })
try {
  const volume = readable(mount.reader)
  await mount.reader.list(volume, '', PAGE)
  times = { ...times, firstListing: secondsSince(began) }
  if (step.page !== null) times = { ...times, page: await timed(mount.reader.list(volume, step.page, PAGE)) }
  if (step.read !== null) times = { ...times, read: await timed(readAll(mount.reader, volume, step.read)) }
} finally {
  await mount.close()
}
console.log(JSON.stringify(times))

function readable({ volumes }: FileReader): Volume {
  const found = volumes.find((volume) => volume.state === 'readable')
  if (!found) throw new HoldfastError('INTERNAL', `No volume of the bench's disk can be read: ${JSON.stringify(volumes)}`)
  return found
}

async function readAll(reader: FileReader, volume: Volume, path: string): Promise<void> {
  const { sizeBytes } = await reader.status(volume, path)
  let readBytes = 0
  for await (const piece of reader.read(volume, path, { offset: 0, length: sizeBytes })) readBytes += piece.length
  if (readBytes !== sizeBytes) throw new HoldfastError('INTERNAL', `${path}: ${readBytes} of ${sizeBytes} bytes were read.`)
}

async function timed(work: Promise<unknown>): Promise<number> {
  began = performance.now()
  await work
  return secondsSince(began)
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1_000
}
