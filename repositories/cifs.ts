/** A repository on an SMB share, of Windows, Samba or a NAS. */
import type { CifsPlace } from '../domain/repository-place.ts'
import { bracketedAddress } from '../domain/server-address.ts'
import { mountOptions } from './mount-options.ts'
import type { SealedShare } from './share-mounts.ts'

/**
 * `echo_interval`: a server that does not answer for thrice as long, half a minute, counts as gone. `nobrl`: byte locks of this protocol hold off the
 * holder's own writes through another descriptor, and QEMU locks the bytes that it writes; who may write is settled by us, on this host.
 * `iocharset`: passwords and names are UTF-8, whatever the kernel takes for granted.
 */
const ours = ['soft', 'echo_interval=10', 'nobrl', 'vers=3.1.1', 'iocharset=utf8', 'file_mode=0600', 'dir_mode=0700']

export function cifsShare(place: CifsPlace, credentialsId: string | null): SealedShare {
  const { server, share_name, domain, username, mount_options } = place
  const account = username === null ? ['guest'] : [`username=${username}`, ...(domain === null ? [] : [`domain=${domain}`])]
  return {
    fileSystem: 'cifs',
    source: `//${bracketedAddress(server)}/${share_name}`,
    options: [...account, ...mountOptions(ours, mount_options)],
    credentialsId: username === null ? null : credentialsId,
  }
}
