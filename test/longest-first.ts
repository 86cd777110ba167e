/**
 * The order of test files: the longest first, so that no processor waits at the end for one long file. Vitest does so from the second run on; in a
 * fresh clone it goes by size, which says little.
 */
import { relative } from 'node:path'
import { BaseSequencer } from 'vitest/node'
import type { TestSpecification } from 'vitest/node'

/** What takes more than half a minute, in seconds beside two others. Worth a look when files become longer; wrong ones cost only time. */
export const knownSeconds: Readonly<Record<string, number>> = {
  'worker/live-backup.integration.test.ts': 283,
  'worker/vm-restore.integration.test.ts': 138,
  'sources/libvirt/offline-snapshot.integration.test.ts': 130,
  'sources/libvirt/guest.integration.test.ts': 100,
  'mounts/user-mode-linux/conformance.integration.test.ts': 145,
  'test/crash-proof.integration.test.ts': 90,
  'worker/interruptions.integration.test.ts': 111,
  'sources/libvirt/live-backups.integration.test.ts': 97,
  'hosting/real-nfs-shares.integration.test.ts': 110,
  'hosting/real-smb-shares.integration.test.ts': 110,
  'disks/restore.integration.test.ts': 75,
  'sources/libvirt/host-ssh.integration.test.ts': 90,
  'sources/libvirt/live-faults.integration.test.ts': 83,
  'sources/libvirt/source.integration.test.ts': 81,
  'disks/transfer-faults.integration.test.ts': 72,
  'dev/stack.integration.test.ts': 68,
  'sources/libvirt/hostile-domains.integration.test.ts': 68,
  'worker/histories-of-mounts.integration.test.ts': 62,
  'disks/verify.integration.test.ts': 61,
  'worker/cleanup.integration.test.ts': 70,
  'worker/parked-backup.integration.test.ts': 60,
  'worker/hanging-share.integration.test.ts': 55,
  'sources/libvirt/restorer.integration.test.ts': 51,
  'api/libvirt-source.integration.test.ts': 51,
  'worker/mount-interruptions.integration.test.ts': 50,
  'worker/many-mounts.integration.test.ts': 42,
  'worker/histories.integration.test.ts': 41,
  'sources/disk-image/source.integration.test.ts': 40,
  'dev/bootstrap.integration.test.ts': 70,
  'sources/libvirt/orphans.integration.test.ts': 39,
  'locker/locker.integration.test.ts': 40,
  'hosting/transfers-on-a-share.integration.test.ts': 38,
  'worker/backup.integration.test.ts': 36,
  'worker/storage-monitor.integration.test.ts': 36,
  'mounts/kernel/conformance.integration.test.ts': 35,
  'hosting/hanging-share.integration.test.ts': 34,
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
