/** A repository on an NFS export. */
import type { NfsPlace } from '../domain/repository-place.ts'
import { bracketedAddress } from '../domain/server-address.ts'
import { mountOptions } from './mount-options.ts'
import type { SealedShare } from './share-mounts.ts'

/**
 * `softerr`: a server that does not answer is an error (ETIMEDOUT) after three tries, half a minute in all, instead of a wait for ever.
 * `retry=0`: whether and when a mount is tried again is ours to decide.
 */
const ours = ['softerr', 'timeo=100', 'retrans=2', 'retry=0']

export function nfsShare({ server, export_path, mount_options }: NfsPlace): SealedShare {
  return {
    fileSystem: 'nfs',
    source: `${bracketedAddress(server)}:${export_path}`,
    options: mountOptions(ours, mount_options),
    credentialsId: null,
  }
}
