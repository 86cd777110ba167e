/** What is wrong with a disk of a backup, told so that a person finds the place. */
import { BLOCK_SIZE_BYTES } from '../domain/blocks.ts'
import type { HoldfastError } from '../domain/errors.ts'
import { digestPosition } from './block-hashes.ts'
import { blocksPath, imagePath, type ChainLink } from './chain.ts'
import { mergeFindings, type Finding } from './findings.ts'

export interface DiskDamage {
  /**
   * - `block`: what a guest would read at this offset of the disk is not what was first read
   * - `file`: the QCOW2 file has other bytes at this offset of the file
   * - `blocks-file`: the hashes themselves are damaged, at this offset of the blocks file
   * - `chain`: the disk cannot be opened: a header, a name or a file of the chain is wrong
   */
  kind: 'block' | 'file' | 'blocks-file' | 'chain'
  offsetBytes: number
  lengthBytes: number
  message: string
  /** Absolute path of the damaged file; for a block the newest image of the chain, as any of them may hold it. */
  file: string
}

export function chainDamage(newest: ChainLink, cause: HoldfastError): DiskDamage {
  const path = cause.details['path']
  const file = typeof path === 'string' ? path : imagePath(newest)
  return { kind: 'chain', offsetBytes: 0, lengthBytes: 0, message: cause.message, file }
}

/** The blocks file as a whole: missing, cut, or with another hash than the manifest says. */
export function blocksFileDamage(newest: ChainLink, message: string): DiskDamage {
  return { kind: 'blocks-file', offsetBytes: 0, lengthBytes: 0, message, file: blocksPath(newest) }
}

export function fileDamage(link: ChainLink, findings: readonly Finding[]): DiskDamage[] {
  return mergeFindings(findings).map(({ offsetBytes, lengthBytes }) => ({
    kind: 'file',
    offsetBytes,
    lengthBytes,
    message: `"${imagePath(link)}" of backup ${link.backupId} was changed after it was written, within ${lengthBytes} bytes at ${offsetBytes} of the file.`,
    file: imagePath(link),
  }))
}

export function blockDamage(newest: ChainLink, findings: readonly Finding[]): DiskDamage[] {
  return mergeFindings(findings).map(({ reason, offsetBytes, lengthBytes }) => ({
    kind: 'block',
    offsetBytes,
    lengthBytes,
    message:
      `Disk ${newest.disk.index} of backup ${newest.backupId}: the ${lengthBytes} bytes at offset ${offsetBytes} ` +
      (reason === 'differs' ? 'are not what was first read.' : 'can no longer be read.'),
    file: imagePath(newest),
  }))
}

/**
 * Blocks that differ although no byte of the image has changed, while the blocks file has: not the data is wrong but its hash.
 * Offsets are those of the digests in the blocks file.
 */
export function digestDamage(newest: ChainLink, findings: readonly Finding[]): DiskDamage[] {
  return mergeFindings(findings).map(({ offsetBytes, lengthBytes }) => {
    const position = digestPosition(offsetBytes / BLOCK_SIZE_BYTES)
    const end = digestPosition(Math.ceil((offsetBytes + lengthBytes) / BLOCK_SIZE_BYTES))
    return {
      kind: 'blocks-file',
      offsetBytes: position,
      lengthBytes: end - position,
      message:
        `The hashes at ${position} of "${blocksPath(newest)}" were changed: they no longer fit the data at offset ${offsetBytes} ` +
        `of disk ${newest.disk.index} of backup ${newest.backupId}.`,
      file: blocksPath(newest),
    }
  })
}
