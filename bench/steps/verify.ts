/** Verifies one disk through its chain. Fails when anything is damaged. */
import { verifyDisk } from '../../disks/verify.ts'
import { stepArgument } from './step-input.ts'
import type { ReadStep } from './step-input.ts'

const step: ReadStep = JSON.parse(stepArgument)
const { verifiedBytes, damage } = await verifyDisk(step, { signal: new AbortController().signal, onProgress: () => {} })
console.log(JSON.stringify({ verifiedBytes, damage }))
process.exitCode = damage.length === 0 ? 0 : 1
