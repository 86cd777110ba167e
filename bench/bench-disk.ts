/** The manifest's entry of a disk that a transfer step has just written. */
import { z } from 'zod'
import type { ManifestDisk } from '../domain/manifest.ts'
import type { TransferStep } from './steps/step-input.ts'

const transferred = z.object({ writtenBytes: z.number(), fileSizeBytes: z.number(), blocksSha256: z.string() })

export function benchDisk(step: Pick<TransferStep, 'sizeBytes' | 'parent'>, output: string): ManifestDisk {
  const result = transferred.parse(JSON.parse(output))
  const parent = step.parent?.at(-1)
  return {
    index: 0,
    key: 'bench',
    label: 'bench',
    size_bytes: step.sizeBytes,
    backup_type: parent ? 'incremental' : 'full',
    full_reason: parent ? null : 'requested',
    file: 'disk-0.qcow2',
    file_size_bytes: result.fileSizeBytes,
    backing_file: parent ? `../${parent.backupId}/disk-0.qcow2` : null,
    blocks_file: 'disk-0.blocks',
    blocks_sha256: result.blocksSha256,
    change_id: null,
    written_bytes: result.writtenBytes,
  }
}
