/**
 * Whatever program our code starts, set-up brings: the names in the sources are compared with the lists in `bootstrap.sh`. A machine that
 * happens to have everything would never show what is missing there.
 */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'

const checkout = resolve(import.meta.dirname, '..')

/** What brings each program. `bare`: on every Debian, and Node, which runs us. */
const programs: Record<string, string[]> = {
  bare: [
    'sh',
    'cat',
    'chmod',
    'chown',
    'cp',
    'dd',
    'df',
    'mkfifo',
    'mv',
    'rm',
    'rmdir',
    'sleep',
    'sync',
    'tar',
    'true',
    'truncate',
    'cmp',
    'mount',
    'umount',
    'losetup',
    'ldd',
    'id',
    'node',
    'kill',
    'env',
    'touch',
    'ls',
    'mknod',
    'find',
    'perl',
  ],
  'util-linux': ['setpriv', 'unshare', 'nsenter', 'fallocate', 'flock', 'prlimit', 'taskset', 'mkswap'],
  'qemu-utils': ['qemu-img', 'qemu-nbd', 'qemu-io'],
  'qemu-system-common': ['qemu-storage-daemon'],
  nbdkit: ['nbdkit'],
  'libnbd-bin': ['nbdcopy', 'nbdinfo', 'nbdfuse'],
  'mariadb-server-core': ['mariadbd', 'mariadb-install-db'],
  'mariadb-client-core': ['my_print_defaults'],
  'python3-venv': [],
  openssl: ['openssl'],
  e2fsprogs: ['mke2fs', 'mkfs.ext4', 'e2fsck', 'debugfs', 'tune2fs', 'chattr', 'lsattr'],
  fdisk: ['sfdisk'],
  'libvirt-clients': ['virsh'],
  'openssh-client': ['ssh', 'ssh-keygen'],
  'user-mode-linux': ['linux.uml'],
  bubblewrap: ['bwrap'],
  'busybox-static': ['busybox'],
  lvm2: ['lvm'],
  mdadm: ['mdadm'],
  'ntfs-3g': ['ntfs-3g', 'mkntfs', 'ntfscp'],
  'exfat-fuse': ['mount.exfat-fuse'],
  dosfstools: ['mkfs.vfat', 'mkfs.fat'],
  mtools: ['mcopy', 'mmd', 'mattrib'],
  exfatprogs: ['mkfs.exfat'],
  'btrfs-progs': ['mkfs.btrfs', 'btrfs'],
  xfsprogs: ['mkfs.xfs', 'xfs_db'],
  udftools: ['mkudffs'],
  'cryptsetup-bin': ['cryptsetup'],
  'thin-provisioning-tools': ['thin_check'],
  kmod: ['modprobe'],
  fuse3: ['fusermount3'],
  'libvirt-daemon': ['libvirtd'],
  'qemu-system-x86': ['qemu-system-x86_64'],
  'openssh-server': ['sshd'],
  'nfs-common': ['mount.nfs'],
  'cifs-utils': ['mount.cifs'],
  'nfs-kernel-server': ['rpc.nfsd', 'rpc.mountd', 'exportfs'],
  samba: ['smbd'],
  virtnbdbackup: ['virtnbdbackup', 'virtnbdrestore'],
}
/** Programs of packages that a listed one depends on. */
const throughDependency: Record<string, string> = { python3: 'python3-venv', smbpasswd: 'samba' }
/** Names that tests start because no such program exists. */
const missingOnPurpose = new Set(['no-such-program'])

const script = readFileSync(join(checkout, 'dev/bootstrap.sh'), 'utf8')
const listed = (variable: string): string[] => (new RegExp(`^${variable}='(.*)'$`, 'm').exec(script)?.[1] ?? '').split(' ')
const always = [...listed('packages'), ...listed('reader_packages')]
const installed = {
  product: ['bare', ...always],
  tests: ['bare', ...always, ...listed('test_packages')],
  bench: ['bare', ...always, ...listed('bench_packages')],
}

/** Who runs a source file. */
function userOf(file: string): keyof typeof installed {
  if (file.startsWith('test/') || file.endsWith('.test.ts') || /\/conformance(-disks)?\.ts$/.test(file)) return 'tests'
  return file.startsWith('bench/') ? 'bench' : 'product'
}

/** Programs that are started, or required, by their names written out. */
function programsIn(source: string): string[] {
  const named = [...source.matchAll(/(?<![.\w])(?:runTool|startTool|requireTool|output|measure)\(\s*'([^']+)'/g)].map(
    ([, name]) => name!,
  )
  const lists = [...source.matchAll(/of \[([^\]]*)\][^\n]*\)\s*\{?\s*requireTool\(/g)].map(([, list]) => list!)
  const required = lists.flatMap((list) => [...list.matchAll(/'([^']+)'/g)].map(([, name]) => name!))
  return [...new Set([...named, ...required])].map((name) => basename(name))
}

const files = globSync('**/*.ts', { cwd: checkout, exclude: ['node_modules/**', '.tools/**', '.holdfast/**'] })
const started = files.flatMap((file) =>
  programsIn(readFileSync(join(checkout, file), 'utf8')).map((program) => ({ file, program, user: userOf(file) })),
)

test('the names are found in the sources', () => {
  const names = new Set(started.map(({ program }) => program))
  for (const program of ['qemu-img', 'nbdkit', 'fusermount3', 'mariadb-install-db', 'mke2fs']) expect(names).toContain(program)
  expect(programsIn(`for (const program of ['cat', "rm", 'cp']) requireTool(program)`)).toEqual(['cat', 'cp'])
})

test('every program that is started comes with a package of its user’s list', () => {
  const missing = started.filter(({ program, user }) => {
    const source = throughDependency[program] ?? Object.keys(programs).find((name) => programs[name]!.includes(program))
    return !missingOnPurpose.has(program) && (source === undefined || !installed[user].includes(source))
  })
  expect(missing).toEqual([])
})

test('every listed package is known here', () => {
  for (const name of new Set([...installed.tests, ...installed.bench])) expect(Object.keys(programs)).toContain(name)
})

describe.each(Object.entries(programs).filter(([name]) => name !== 'bare'))('%s', (name, brought) => {
  const list = [`/var/lib/dpkg/info/${name}.list`, `/var/lib/dpkg/info/${name}:amd64.list`].find((path) => existsSync(path))
  test.skipIf(list === undefined)('brings what it is said to bring', () => {
    const names = new Set(
      readFileSync(list!, 'utf8')
        .split('\n')
        .map((path) => basename(path)),
    )
    for (const program of brought) expect(names).toContain(program)
  })
})
