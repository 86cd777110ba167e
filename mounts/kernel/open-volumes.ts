/** Finds what is on a disk, and mounts what the host's kernel, or ntfs-3g, can read. */
import { mkdir, open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../../domain/errors.ts'
import type { Volume } from '../../domain/restore-mount.ts'
import type { RunningTool } from '../../tools/run-tool.ts'
import { kernelFileSystems, kernelHas } from './file-systems.ts'
import type { FolderVolume } from './folder-reader.ts'
import type { DiskRange, KernelDisk } from './kernel-disk.ts'
import { mountByKernel, mountByNtfs3g, type MountPlan } from './mount-file-system.ts'
import { readPartitionTable, type PartitionTable } from './partition-table.ts'
import { probe, type Found } from './probe.ts'

const ELSEWHERE = 'The driver "user-mode-linux" reads it.'
const ENCRYPTED = new Set(['crypto_LUKS', 'BitLocker'])
const MEMBERS = new Set(['LVM1_member', 'LVM2_member', 'linux_raid_member'])
/** Where volumes are mounted, below the disk's folder. */
const VOLUMES = 'volumes'

export interface OpenVolumes {
  volumes: FolderVolume[]
  /** What serves some of them, for the caller to stop; each is needed. */
  programs: RunningTool[]
}

interface Part extends DiskRange {
  id: string
  name: string
}

/**
 * Every volume of the disk with its state, readable or not, in the order of the partitions. `TOOL_MISSING`, `TOOL_FAILED`, `TOOL_TIMEOUT` of the
 * programs; on those, and on abort, `programs` may already hold some.
 */
export async function openVolumes(disk: KernelDisk, programs: RunningTool[], signal?: AbortSignal): Promise<FolderVolume[]> {
  const whole: Part = { id: 'disk', name: '', offsetBytes: 0, sizeBytes: disk.sizeBytes }
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

async function tableOf(disk: KernelDisk): Promise<PartitionTable | null> {
  const file = await open(disk.device, 'r')
  try {
    return await readPartitionTable({ read: (offset, length) => readExactly(file, offset, length), sizeBytes: disk.sizeBytes })
  } finally {
    await file.close()
  }
}

/** `DISK_READ_FAILED` (retryable). */
async function readExactly(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset).catch((cause: unknown) => {
    throw new HoldfastError('DISK_READ_FAILED', `The partition table, ${length} bytes at ${offset}, could not be read.`, {
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

function outcomeOf(opening: Opening, { type, claims }: Found): Outcome | Promise<Outcome> {
  if (ENCRYPTED.has(type)) return { state: 'encrypted', note: 'it is encrypted, and only who has its key can read it' }
  if (MEMBERS.has(type))
    return { state: 'member', note: `this host's driver does not read RAID arrays and volume groups. ${ELSEWHERE}` }
  if (type === 'swap') return { state: 'swap', note: '' }
  if (claims !== '') return { state: 'unknown', note: `several file systems claim it: ${claims}` }
  if (type === 'ntfs') return mountNtfs(opening)
  return mountKnown(opening, type)
}

async function mountKnown(opening: Opening, type: string): Promise<Outcome> {
  const how = kernelFileSystems.get(type)
  if (!how) return { state: 'unknown', note: type === '' ? '' : `this driver does not read ${type}. ${ELSEWHERE}` }
  if (!(await kernelHas(how.kind))) {
    return { state: 'unknown', note: `the kernel of this host cannot read ${type}. ${ELSEWHERE}` }
  }
  const mounted = await mountByKernel(await planOf(opening), how)
  if (mounted === null) return { state: 'damaged', note: 'the kernel of this host cannot open it; its log (dmesg) says why' }
  const note = 'its journal was not replayed: what was written last before the backup may be missing'
  return { state: 'readable', note: mounted === 'as-is' ? note : '' }
}

async function mountNtfs(opening: Opening): Promise<Outcome> {
  try {
    const program = await mountByNtfs3g(await planOf(opening))
    if (!program) return { state: 'damaged', note: 'ntfs-3g cannot open it' }
    opening.programs.push(program)
    return { state: 'readable', note: '' }
  } catch (error) {
    if (!(error instanceof HoldfastError) || error.code !== 'TOOL_MISSING') throw error
    return { state: 'unknown', note: `ntfs-3g is not installed on this host. ${ELSEWHERE}` }
  }
}

async function planOf({ disk, part, signal }: Opening): Promise<MountPlan> {
  const name = join(VOLUMES, part.id)
  await mkdir(disk.hostPath(name), { recursive: true })
  return { disk, name, offsetBytes: part.offsetBytes, sizeBytes: part.sizeBytes, signal }
}
