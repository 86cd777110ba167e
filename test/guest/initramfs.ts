/** The guest's whole system as an initramfs: `init.sh` with busybox, the drivers of its virtual machine and the guest agent. */
import { chmod, copyFile, mkdir, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { runTool } from '../../tools/run-tool.ts'
import { agentPath, busyboxPath, modulePath } from './guest-files.ts'

/** In the order in which they depend on each other. File systems and the serial line are built into the kernel. */
const modules = [
  'drivers/virtio/virtio_ring.ko',
  'drivers/virtio/virtio.ko',
  'drivers/virtio/virtio_pci_legacy_dev.ko',
  'drivers/virtio/virtio_pci_modern_dev.ko',
  'drivers/virtio/virtio_pci.ko',
  'drivers/block/virtio_blk.ko',
  'drivers/char/virtio_console.ko',
]

/** Builds it below `folder` and returns its path. Uncompressed: unpacking would take longer than reading. */
export async function buildInitramfs(folder: string): Promise<string> {
  const root = join(folder, 'initramfs')
  await put(join(import.meta.dirname, 'init.sh'), join(root, 'init'))
  await put(busyboxPath, join(root, 'bin/busybox'))
  await put(agentPath, join(root, 'bin/qemu-ga'))
  for (const library of await librariesOf(agentPath)) await put(library, join(root, library))
  for (const module of modules) await put(modulePath(module), join(root, 'modules', basename(module)))
  await writeFile(join(root, 'modules/order'), modules.map((module) => basename(module)).join('\n'))

  const path = join(folder, 'initramfs.cpio')
  const archive = 'cd "$1" && "$2" find . | "$2" cpio -o -H newc >"$3"'
  await runTool('sh', ['-c', archive, 'sh', root, busyboxPath, path], { timeoutMs: 60_000 })
  return path
}

async function put(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await copyFile(from, to)
  await chmod(to, 0o755)
}

/** Absolute paths of the shared libraries, and of the loader that finds them at these paths. */
async function librariesOf(program: string): Promise<string[]> {
  const { stdout } = await runTool('ldd', [program], { timeoutMs: 10_000 })
  const missing = /^\s*(\S+) => not found/m.exec(stdout)
  if (missing) throw new Error(`${program} needs ${missing[1]}, which this machine does not have.`)
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!)
}
