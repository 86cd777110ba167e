/** What a mover holds while files are read: a mount and the file service, in a process of its own. Prints where, and ends with its input. */
import { pino } from 'pino'
import { createFileService } from '../../files/file-service.ts'
import { startFileServer } from '../../files/serve-files.ts'
import { OpenMounts } from '../../mounts/open-mounts.ts'
import { createMountOpener } from '../../mounts/open-restore-mount.ts'
import { loadFilesKey } from '../../security/signed-requests.ts'
import { BENCH_MOUNT_ID, stepArgument } from './step-input.ts'
import type { MountStep } from './step-input.ts'

const step: MountStep = JSON.parse(stepArgument)
const open = createMountOpener({ driver: step.driver, runFolder: step.runFolder, cacheFolder: step.cacheFolder })
const mounts = new OpenMounts(1)
await mounts.open(BENCH_MOUNT_ID, () => open({ mountId: BENCH_MOUNT_ID, links: step.links }))
const app = createFileService({
  mounts,
  key: await loadFilesKey(step.cacheFolder),
  noteAccess: () => undefined,
  logger: pino({ level: 'warn' }, process.stderr),
  now: () => new Date(),
})
const server = await startFileServer({ app, host: '127.0.0.1', port: 0 })
console.log(server.url)
process.stdin.resume().once('end', () => void end())

async function end(): Promise<void> {
  await server.close()
  await mounts.closeAll()
}
