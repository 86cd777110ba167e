/** Downloads one file through the file service of a fresh mount. Prints how long that took. */
import { serveMount } from '../mounts/served-mount.ts'
import { stepArgument } from './step-input.ts'
import type { MountStep, MountTimes } from './step-input.ts'

const step: MountStep = JSON.parse(stepArgument)
const served = await serveMount(step)
try {
  const began = performance.now()
  await served.get('download', { path: `/${step.read ?? ''}` })
  const times: MountTimes = { firstListing: 0, page: null, read: (performance.now() - began) / 1_000 }
  console.log(JSON.stringify(times))
} finally {
  await served.stop()
}
