/** The demo's VM as a running domain of a libvirtd that belongs to the demo alone. */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { runTool } from '../../tools/run-tool.ts'
import { startLiveDomain } from '../live-domain.ts'
import type { LiveDomain } from '../live-domain.ts'
import { startPrivateLibvirt } from '../private-libvirt.ts'
import type { PrivateLibvirt } from '../private-libvirt.ts'
import type { ApiClient } from './api-client.ts'
import type { DemoDisk, DemoVm } from './demo-vm.ts'
import { diskChanges } from './disk-changes.ts'
import { copyIntoQcow2 } from './image-platform.ts'
import type { VmPlatform } from './vm-platform.ts'

export interface LibvirtFolders {
  /** Of libvirtd. Short, because unix sockets go below it. */
  libvirt: string
  /** Short as well: QEMU serves the backup from a socket in it, and keeps there what the guest overwrites meanwhile. */
  scratch: string
}

export async function startLibvirtPlatform(vm: DemoVm, folders: LibvirtFolders): Promise<VmPlatform> {
  const images = vm.disks.map((disk) => disk.truth.replace(/\.raw$/, '.qcow2'))
  for (const disk of vm.disks) await copyIntoQcow2(disk.truth, images[disk.index]!)
  await mkdir(folders.scratch, { recursive: true })
  const libvirt = await startPrivateLibvirt(folders.libvirt)
  try {
    const domain = await startLiveDomain(libvirt, vm.name, images)
    return {
      live: true,
      register: (api) => registerSource(api, { uri: libvirt.uri, scratchFolder: folders.scratch, domain }),
      writeDisk: (disk, before) => writeChanges(domain, disk, before),
      leftovers: () => leftovers(libvirt, domain, folders.scratch),
      stop: () => libvirt.stop(),
    }
  } catch (error) {
    await libvirt.stop()
    throw error
  }
}

const registered = z.object({ source_id: z.string(), source: z.object({ version: z.string(), warnings: z.array(z.string()) }) })
const discovered = z.object({ message: z.string(), problems: z.array(z.object({ vm_name: z.string(), error: z.string() })) })

/** As an administrator does it: the connection, and what Holdfast finds there. */
async function registerSource(
  api: ApiClient,
  options: { uri: string; scratchFolder: string; domain: LiveDomain },
): Promise<string[]> {
  const { source_id: sourceId, source } = await api.call('POST', '/sources', registered, {
    name: 'Demo libvirt',
    source_type: 'libvirt',
    uri: options.uri,
    scratch_folder: options.scratchFolder,
  })
  const { message, problems } = await api.call('POST', `/sources/${sourceId}/discover`, discovered)
  return [
    `source ${options.uri} (${source.version})`,
    ...source.warnings.map((warning) => `  warning: ${warning}`),
    `discovery: ${message}`,
    ...problems.map((problem) => `  ${problem.vm_name}: ${problem.error}`),
  ]
}

/** The guest's writes: what changed in the truth, through QEMU's block layer. */
async function writeChanges(domain: LiveDomain, disk: DemoDisk, before: string): Promise<void> {
  const pieces = `${disk.truth}.pieces`
  await mkdir(pieces, { recursive: true })
  for (const { offsetBytes, sizeBytes, zero } of await diskChanges(before, disk.truth)) {
    if (zero) {
      await domain.writeDisk(disk.index, `write -z -u ${offsetBytes} ${sizeBytes}`)
      continue
    }
    const piece = join(pieces, String(offsetBytes))
    await writeFile(piece, '')
    const [input, output] = [`if=${disk.truth}`, `of=${piece}`]
    const range = ['iflag=skip_bytes,count_bytes', `skip=${offsetBytes}`, `count=${sizeBytes}`, 'bs=1M', 'status=none']
    await runTool('dd', [input, output, ...range], { timeoutMs: 60_000 })
    await domain.writeDisk(disk.index, `write -s ${piece} ${offsetBytes} ${sizeBytes}`)
  }
}

/** A backup that ended leaves its checkpoint, which the next one needs, and nothing else. */
async function leftovers(libvirt: PrivateLibvirt, domain: LiveDomain, scratchFolder: string): Promise<string[]> {
  const job = await libvirt.ask('domjobinfo', domain.uuid)
  const files = await readdir(scratchFolder)
  return [
    ...(/Job type:\s+None/.test(job) ? [] : ['a backup job still runs in QEMU']),
    ...files.map((file) => `${join(scratchFolder, file)} is still there`),
  ]
}
