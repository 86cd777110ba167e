/** Sizes of a domain's disks, without freezing them. */
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
  const described: SourceDisk[] = []
  for (const disk of context.included) {
    const { index, target, path, format } = disk
    const sizeBytes = await guestSizeBytes(context, disk, options)
    const dataBytes = Math.min(sizeBytes, await dataBytesOf(context, disk, sizeBytes, options))
    described.push({ index, key: target, label: `${target} (${path})`, format, path, sizeBytes, dataBytes })
  }
  return described
}

/** What the guest sees: of a running domain QEMU knows it, else libvirt reads the image's header. */
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

/**
 * The greater of what the image's map holds, which counts compressed data fully but lags behind QEMU's own memory of it, and of what its
 * files take, which does not. All of the disk where neither can be read: a map of many TiB, a host without `qemu-img`.
 */
async function dataBytesOf(
  { host }: DomainContext,
  { path, format, sourceType }: IncludedDisk,
  sizeBytes: number,
  options: Options,
): Promise<number> {
  const image = `json:${JSON.stringify({ driver: format, file: { driver: sourceType === 'block' ? 'host_device' : 'file', filename: path } })}`
  const ask = async (...args: string[]): Promise<unknown> =>
    JSON.parse(await host.qemuImg([...args, '--output=json', '-U', image], { timeoutMs: MEASURE_MS, ...options }))
  try {
    const needed = numberAt(await ask('measure', '-O', 'qcow2'), 'required')
    const layers = await ask('info', '--backing-chain')
    const files = (Array.isArray(layers) ? layers : []).reduce<number>((sum, layer) => sum + numberAt(layer, 'actual-size'), 0)
    return Math.max(needed, files)
  } catch (error) {
    options.signal?.throwIfAborted()
    if (error instanceof SyntaxError) return sizeBytes
    if (error instanceof HoldfastError && error.code.startsWith('TOOL_')) return sizeBytes
    throw error
  }
}

function numberAt(value: unknown, key: string): number {
  const found: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined
  return typeof found === 'number' && found >= 0 ? found : 0
}
