/**
 * Shares for real: a kernel of our own, with its clients and servers of NFS and SMB on its loopback, and in it our own code. The kernels that we develop
 * on have neither. What is tested stands in `test/real-shares.ts`.
 */
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { expect, it } from 'vitest'
import { requireTool } from '../test/requires.ts'
import type { SmallTestResult } from '../test/small-vitest.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { runInUml } from '../test/uml-machine.ts'

for (const program of ['linux.uml', 'rpc.nfsd', 'mount.nfs', 'smbd', 'mount.cifs', 'qemu-nbd']) requireTool(program)

const MODULES = [
  'nfsd',
  'nfsv4',
  'cifs',
  'nls_utf8',
  'aes_generic',
  'cmac',
  'hmac',
  'md5',
  'sha256_generic',
  'sha512_generic',
  'ccm',
  'gcm',
  'ctr',
  'ghash-generic',
  'ecb',
]
/** Of both servers, with the conformance suite twice. */
const TESTS_MIN = 90

it('repositories on NFS and SMB shares do what they must, with real servers and the kernel’s own clients', async ({
  annotate,
}) => {
  const folder = await temporaryFolder()
  const results = join(folder, 'results')
  const checkout = resolve(import.meta.dirname, '..')
  const script = `
ip link set lo up
for module in ${MODULES.join(' ')}; do load $module; done
for folder in /var/lib/nfs /var/lib/samba /var/cache/samba; do mount -t tmpfs tmpfs $folder; done
mkdir -p /var/lib/nfs/rpc_pipefs /var/lib/nfs/v4recovery
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/xtab
mount -t nfsd nfsd /proc/fs/nfsd
echo "ready after $(cut -d ' ' -f 1 /proc/uptime) s"
cd ${checkout}
'${process.execPath}' test/small-vitest-runner.ts '${results}' '${checkout}/test/real-shares.ts'
busybox dmesg | grep -iE "cifs|nfs|smb" | tail -n 20
echo "done after $(cut -d ' ' -f 1 /proc/uptime) s"`
  const printed = await runInUml({ script, disks: [], folder, timeoutMs: 400_000, memoryMib: 1024 })
  const lines = (await readFile(results, 'utf8')).trimEnd().split('\n')
  const tests = lines.map((line) => JSON.parse(line) as SmallTestResult)
  await annotate(`${tests.map(({ name, durationMs }) => `${durationMs} ms  ${name}`).join('\n')}\n${printed}`)
  expect(tests.filter(({ failure }) => failure !== null)).toEqual([])
  expect(tests.length).toBeGreaterThan(TESTS_MIN)
  expect(printed).not.toContain('canary')
}, 420_000)
