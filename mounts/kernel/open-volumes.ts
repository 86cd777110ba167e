/** Finds what is on a disk, and mounts what the host's kernel, or ntfs-3g, can read. */
import { mkdir, open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../../domain/errors.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import type { RunningTool } from '../../tools/run-tool.ts'
import { kernelFileSystems, kernelHas, type KernelFileSystem } from './file-systems.ts'
import type { FolderVolume } from './folder-reader.ts'
import type { DiskRange, KernelDisk } from './kernel-disk.ts'
import { mountByKernel, mountByNtfs3g, type MountPlan } from './mount-file-system.ts'
import { readPartitionTable, type PartitionTable, type ReadDisk } from './partition-table.ts'
import { probe, type Found } from './probe.ts'
import { encryptions, members, noteOfUnknown, OTHER_DRIVER } from './volume-notes.ts'

/** What is read of something unknown. */
const BEGINNING_BYTES = 1024 * 1024
/** Where volumes are mounted, below the disk's folder. */
const VOLUMES = 'volumes'

interface Part extends DiskRange {
  id: string
  /** As the partition table has them; empty for a whole disk. */
  name: string
  type: string
}

/**
 * Every volume of the disk with its state, readable or not, in the order of the partitions. `TOOL_MISSING`, `TOOL_FAILED`, `TOOL_TIMEOUT` of the
 * programs. What serves some of the volumes is added to `programs`, also when this fails; the caller stops it, and each is needed.
 */
export async function openVolumes(disk: KernelDisk, programs: RunningTool[], signal?: AbortSignal): Promise<FolderVolume[]> {
  const whole: Part = { id: 'disk', name: '', type: '', offsetBytes: 0, sizeBytes: disk.sizeBytes }
  const onDisk = await probe(disk, whole, signal)
  const table = await tableOf(disk)
  // What an older table at the end of the disk says does not count against a file system.
  const parts = table && (table.announced || onDisk.type === '') ? partsOf(table) : []
  if (parts.length === 0) return [await openVolume({ disk, programs, part: whole, signal }, onDisk, table?.note ?? '')]
  const volumes: FolderVolume[] = []
  for (const part of parts) {
    const found = await probe(disk, part, signal)
    volumes.push(await openVolume({ disk, programs, part, signal }, found, table?.note ?? ''))
  }
  return volumes
}

function partsOf({ partitions }: PartitionTable): Part[] {
  return partitions.map(({ number, ...rest }) => ({ id: `partition-${number}`, ...rest }))
}

function tableOf(disk: KernelDisk): Promise<PartitionTable | null> {
  return withDisk(disk, (read) => readPartitionTable({ read, sizeBytes: disk.sizeBytes }))
}

function readBeginning({ disk, part }: Opening): Promise<Buffer> {
  return withDisk(disk, (read) => read(part.offsetBytes, Math.min(part.sizeBytes, BEGINNING_BYTES)))
}

async function withDisk<T>(disk: KernelDisk, work: (read: ReadDisk) => Promise<T>): Promise<T> {
  const file = await open(disk.device, 'r')
  try {
    return await work((offset, length) => readExactly(file, offset, length))
  } finally {
    await file.close()
  }
}

/** `DISK_READ_FAILED` (retryable). */
async function readExactly(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset).catch((cause: unknown) => {
    throw new HoldfastError('DISK_READ_FAILED', `${length} bytes at ${offset} of the exported disk could not be read.`, {
      cause,
    })
  })
  if (bytesRead === length) return buffer
  throw new HoldfastError(
    'DISK_READ_FAILED',
    `The exported disk ended at ${offset + bytesRead} bytes, before the size of the backup.`,
  )
}

interface Opening {
  disk: KernelDisk
  programs: RunningTool[]
  part: Part
  signal: AbortSignal | undefined
}

type Outcome = Pick<Volume, 'state' | 'note'>

async function openVolume(opening: Opening, found: Found, tableNote: string): Promise<FolderVolume> {
  const { disk, part } = opening
  const { state, note } = await outcomeOf(opening, found)
  const volume: Volume = {
    id: part.id,
    state,
    fileSystem: found.type,
    label: found.label || part.name,
    uuid: found.uuid,
    sizeBytes: part.sizeBytes,
    note: [note, tableNote].filter((text) => text !== '').join('; '),
  }
  return { volume, folder: state === 'readable' ? disk.hostPath(join(VOLUMES, part.id)) : null }
}

async function outcomeOf(opening: Opening, found: Found): Promise<Outcome> {
  const { type, claims } = found
  const encryption = encryptions.get(type)
  if (encryption !== undefined) {
    return { state: 'encrypted', note: `encrypted with ${encryption}: it cannot be read without its key` }
  }
  const member = members.get(type)
  if (member !== undefined) return { state: 'member', note: member }
  if (type === 'swap') return { state: 'swap', note: '' }
  if (claims !== '') return { state: 'unknown', note: `it bears the signs of several file systems: ${claims}` }
  if (type === 'ntfs') return mountNtfs(opening)
  const how = kernelFileSystems.get(type)
  if (how) return mountKnown(opening, type, how)
  const beginning = await readBeginning(opening)
  return { state: 'unknown', note: noteOfUnknown(found, opening.part.type, beginning) }
}

async function mountKnown(opening: Opening, type: string, how: KernelFileSystem): Promise<Outcome> {
  if (!(await kernelHas(how.kind))) {
    return { state: 'unknown', note: `the kernel of this host cannot read ${type}: ${OTHER_DRIVER}` }
  }
  const mounted = await mountByKernel(await planOf(opening), how)
  if (mounted === null) {
    return { state: 'damaged', note: `its ${type} file system is damaged, or too new: the log of this host's kernel says more` }
  }
  const note = 'its journal was not replayed: what was written last before the backup may be missing'
  return { state: 'readable', note: mounted === 'as-is' ? note : '' }
}

async function mountNtfs(opening: Opening): Promise<Outcome> {
  try {
    const program = await mountByNtfs3g(await planOf(opening))
    if (!program) return { state: 'damaged', note: 'its ntfs file system is damaged: ntfs-3g cannot open it' }
    opening.programs.push(program)
    return { state: 'readable', note: '' }
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code !== 'TOOL_MISSING') throw error
    return { state: 'unknown', note: `ntfs-3g is not installed on this host: ${OTHER_DRIVER}` }
  }
}

async function planOf({ disk, part, signal }: Opening): Promise<MountPlan> {
  const name = join(VOLUMES, part.id)
  await mkdir(disk.hostPath(name), { recursive: true })
  return { disk, name, offsetBytes: part.offsetBytes, sizeBytes: part.sizeBytes, signal }
}
