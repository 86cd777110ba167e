/** Sizes of a domain's disks, without freezing them. */
import { z } from 'zod'
import { HoldfastError } from '../../domain/errors.ts'
import type { SourceDisk, VmDescription } from '../source.ts'
import type { DomainContext } from './domain-context.ts'
import type { IncludedDisk } from './included-disks.ts'

const MEASURE_MS = 60_000

interface Options {
  signal?: AbortSignal | undefined
}

/** `SOURCE_NOT_FOUND` when an image is gone, and the errors of `virsh`. */
export async function describeDomainVm(context: DomainContext, options: Options): Promise<VmDescription> {
  const { domain, state, warnings } = context
  return {
    powerState: state.power === 'off' ? 'off' : 'on',
    cpuCount: domain.vcpus,
    memoryMb: domain.memoryMb,
    osType: domain.osId,
    disks: await describeDisks(context, options),
    warnings,
  }
}

export async function describeDisks(context: DomainContext, options: Options): Promise<SourceDisk[]> {
  return (await inspectDisks(context, options)).map(({ disk }) => disk)
}

export interface InspectedDisk {
  disk: SourceDisk
  /** Whether the image can hold a record of changes; an old QCOW2 cannot. */
  keepsBitmaps: boolean
}

/** The included disks, in their order. Errors as of {@link describeDomainVm}. */
export async function inspectDisks(context: DomainContext, options: Options): Promise<InspectedDisk[]> {
  const sizes = await guestSizes(context, options)
  const inspected: InspectedDisk[] = []
  for (const disk of context.included) {
    const { index, target, path, format } = disk
    const sizeBytes = sizes.get(target) ?? (await guestSizeBytes(context, disk, options))
    const image = await imageFacts(context, disk, options)
    const dataBytes = Math.min(sizeBytes, image?.dataBytes ?? sizeBytes)
    inspected.push({
      disk: { index, key: target, label: `${target} (${path})`, format, path, sizeBytes, dataBytes },
      keepsBitmaps: disk.keepsBitmaps && image?.compat !== OLD_QCOW2,
    })
  }
  return inspected
}

const OLD_QCOW2 = '0.10'

/** What the guest sees: of a running domain QEMU knows it, else libvirt reads the headers. Empty when one of the domain's images is in the way. */
async function guestSizes({ connection, uuid }: DomainContext, options: Options): Promise<Map<string, number>> {
  try {
    const table = await connection.ask(['domblkinfo', uuid, '--all'], options)
    return new Map(
      [...table.matchAll(/^\s*(\w+)\s+(\d+)\s+\d+\s+\d+\s*$/gm)].map(([, target = '', size]) => [target, Number(size)]),
    )
  } catch (error) {
    if (error instanceof HoldfastError && error.code === 'TOOL_FAILED') return new Map()
    throw error
  }
}

async function guestSizeBytes({ connection, uuid }: DomainContext, disk: IncludedDisk, options: Options): Promise<number> {
  const { target, path } = disk
  let info: string
  try {
    info = await connection.ask(['domblkinfo', uuid, target], options)
  } catch (error) {
    if (!(error instanceof HoldfastError) || !/No such file or directory|cannot stat/.test(error.message)) throw error
    throw new HoldfastError('SOURCE_NOT_FOUND', `The image "${path}" of disk ${target} does not exist.`, {
      details: { path, disk: target },
      cause: error,
    })
  }
  const sizeBytes = Number(/^Capacity:\s*(\d+)\s*$/m.exec(info)?.[1])
  if (Number.isSafeInteger(sizeBytes) && sizeBytes > 0) return sizeBytes
  throw new HoldfastError('SOURCE_INVALID', `libvirt does not know the size of disk ${target} ("${path}").`, {
    details: { path, disk: target },
  })
}

const imageInfo = z.array(
  z.object({
    'actual-size': z.number().default(0),
    'format-specific': z.object({ data: z.object({ compat: z.string().optional() }).optional() }).optional(),
  }),
)
const imageMeasure = z.object({ required: z.number() })

/**
 * `dataBytes`: the greater of what the image's map holds, which counts compressed data fully but lags behind QEMU's own memory of it, and of
 * what its files take, which does not. `null` where the host cannot tell: a map of many TiB, no `qemu-img`, no right to read.
 */
async function imageFacts(
  { host }: DomainContext,
  { path, format, sourceType }: IncludedDisk,
  options: Options,
): Promise<{ dataBytes: number; compat: string | undefined } | null> {
  const driver = sourceType === 'block' ? 'host_device' : 'file'
  const image = `json:${JSON.stringify({ driver: format, file: { driver, filename: path } })}`
  const ask = async (...args: string[]): Promise<unknown> =>
    JSON.parse(await host.qemuImg([...args, '--output=json', '-U', image], { timeoutMs: MEASURE_MS, ...options }))
  try {
    const layers = imageInfo.parse(await ask('info', '--backing-chain'))
    const { required } = imageMeasure.parse(await ask('measure', '-O', 'qcow2'))
    const files = layers.reduce((sum, layer) => sum + layer['actual-size'], 0)
    return { dataBytes: Math.max(required, files), compat: layers[0]?.['format-specific']?.data?.compat }
  } catch (error) {
    options.signal?.throwIfAborted()
    if (error instanceof SyntaxError || error instanceof z.ZodError) return null
    if (error instanceof HoldfastError && error.code.startsWith('TOOL_')) return null
    throw error
  }
}
