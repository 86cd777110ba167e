/**
 * The order of test files: the longest first, so that no processor waits at the end for one long file. Vitest does so from the second run on; in a
 * fresh clone it goes by size, which says little.
 */
import { relative } from 'node:path'
import { BaseSequencer } from 'vitest/node'
import type { TestSpecification } from 'vitest/node'

/** What takes more than half a minute, in seconds beside three others. Worth a look when files become longer; wrong ones cost only time. */
export const knownSeconds: Readonly<Record<string, number>> = {
  'worker/live-backup.integration.test.ts': 343,
  'sources/libvirt/offline-snapshot.integration.test.ts': 183,
  'worker/vm-restore.integration.test.ts': 160,
  'mounts/user-mode-linux/conformance.integration.test.ts': 150,
  'sources/libvirt/guest.integration.test.ts': 146,
  'disks/restore.integration.test.ts': 138,
  'hosting/real-nfs-shares.integration.test.ts': 125,
  'sources/libvirt/host-ssh.integration.test.ts': 122,
  'worker/interruptions.integration.test.ts': 121,
  'sources/libvirt/live-backups.integration.test.ts': 117,
  'hosting/real-smb-shares.integration.test.ts': 117,
  'test/crash-proof.integration.test.ts': 112,
  'sources/libvirt/live-faults.integration.test.ts': 95,
  'sources/libvirt/hostile-domains.integration.test.ts': 91,
  'dev/stack.integration.test.ts': 86,
  'sources/libvirt/source.integration.test.ts': 80,
  'worker/cleanup.integration.test.ts': 75,
  'sources/disk-image/source.integration.test.ts': 71,
  'worker/parked-backup.integration.test.ts': 69,
  'disks/transfer-faults.integration.test.ts': 66,
  'sources/libvirt/restorer.integration.test.ts': 63,
  'worker/histories.integration.test.ts': 62,
  'worker/histories-of-mounts.integration.test.ts': 60,
  'dev/bootstrap.integration.test.ts': 60,
  'mounts/kernel/conformance.integration.test.ts': 59,
  'worker/mount-interruptions.integration.test.ts': 56,
  'api/libvirt-source.integration.test.ts': 54,
  'sources/libvirt/orphans.integration.test.ts': 52,
  'disks/verify.integration.test.ts': 50,
  'worker/hanging-share.integration.test.ts': 48,
  'repositories/local.integration.test.ts': 47,
  'hosting/transfers-on-a-share.integration.test.ts': 44,
  'worker/locked-backups.integration.test.ts': 41,
  'worker/backup.integration.test.ts': 41,
  'hosting/hanging-share.integration.test.ts': 41,
  'disks/transfer-changed-source.integration.test.ts': 39,
  'dev/mariadb.integration.test.ts': 39,
  'files/archive.integration.test.ts': 36,
  'tools/ssh.integration.test.ts': 34,
  'worker/storage-monitor.integration.test.ts': 30,
}

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const usual = await super.sort(files)
    // Projects stay as they are, behind each other.
    const projects = [...new Set(usual.map((file) => file.project.name))]
    return projects.flatMap((name) => {
      const own = usual.filter((file) => file.project.name === name)
      return own.toSorted((one, other) => this.#seconds(other) - this.#seconds(one))
    })
  }

  #seconds(file: TestSpecification): number {
    return knownSeconds[relative(this.ctx.config.root, file.moduleId)] ?? 0
  }
}
