/**
 * Shares for real: a kernel of our own, with its clients and servers of NFS and SMB on its loopback, and in it our own code. The kernels that we develop
 * on have neither. What is tested stands in `real-shares.ts`.
 */
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { SmallTestResult } from './small-vitest.ts'
import { temporaryFolder } from './temporary-folder.ts'
import { runInUml } from './uml-machine.ts'

const modules = {
  nfs: ['nfsd', 'nfsv4'],
  smb: ['cifs', 'nls_utf8', 'cmac', 'hmac', 'sha512_generic', 'ccm', 'gcm', 'ctr', 'ghash-generic', 'ecb'],
}

/** Runs `real-<kind>-shares.ts` there. */
export async function testShares(kind: keyof typeof modules): Promise<{ tests: SmallTestResult[]; printed: string }> {
  const folder = await temporaryFolder()
  const results = join(folder, 'results')
  const checkout = resolve(import.meta.dirname, '..')
  const script = `
ip link set lo up
for module in ${modules[kind].join(' ')}; do load $module; done
for folder in /var/lib/nfs /var/lib/samba /var/cache/samba; do mount -t tmpfs tmpfs $folder; done
mkdir -p /var/lib/nfs/rpc_pipefs /var/lib/nfs/v4recovery
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/xtab
[ ${kind} = smb ] || mount -t nfsd nfsd /proc/fs/nfsd
cd ${checkout}
export NODE_COMPILE_CACHE='${process.env['NODE_COMPILE_CACHE'] ?? ''}'
'${process.execPath}' test/small-vitest-runner.ts '${results}' '${checkout}/test/real-${kind}-shares.ts'`
  const printed = await runInUml({ script, disks: [], folder, timeoutMs: 300_000, memoryMib: 1024 })
  const lines = (await readFile(results, 'utf8')).trimEnd().split('\n')
  return { tests: lines.map((line) => JSON.parse(line) as SmallTestResult), printed }
}
