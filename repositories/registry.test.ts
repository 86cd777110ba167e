import { describe, expect, it } from 'vitest'
import type { RepositoryType } from '../domain/backup.ts'
import type { JsonObject } from '../domain/errors.ts'
import { placeOf, repositoryAt } from './registry.ts'
import type { SealedShare } from './share-mounts.ts'

const shareOf = (type: RepositoryType, config: JsonObject, credentialsId: string | null = null): SealedShare => {
  const place = placeOf({ id: 'repo-a', type, config, credentialsId })
  if (place.kind !== 'share') throw new Error('not a share')
  return place.share
}
const nfs = (more: JsonObject = {}): SealedShare => shareOf('nfs', { server: 'nas', export_path: '/exports/a', ...more })
const cifs = (more: JsonObject = {}): SealedShare => shareOf('cifs', { server: 'nas', share_name: 'a', ...more }, 'cred-1')

describe('the place of a repository', () => {
  it('is a folder, or a share with a source that mount understands', () => {
    expect(placeOf({ id: 'repo-a', type: 'local', config: { path: '/srv/a' }, credentialsId: null })).toEqual({
      kind: 'folder',
      path: '/srv/a',
    })
    expect(nfs()).toMatchObject({ fileSystem: 'nfs', source: 'nas:/exports/a', credentialsId: null })
    expect(nfs({ server: 'fd00::1' }).source).toBe('[fd00::1]:/exports/a')
    expect(cifs({ share_name: 'Our backups$' }).source).toBe('//nas/Our backups$')
  })

  it('on NFS gives up by itself, and its files are harmless', () => {
    const ours = ['nosuid', 'nodev', 'noexec', 'noatime', 'softerr', 'timeo=100', 'retrans=2', 'retry=0']
    expect(nfs().options).toEqual(ours)
    expect(nfs({ mount_options: ['ro', 'nolock'] }).options).toEqual([...ours, 'ro', 'nolock'])
  })

  it('on SMB gives up by itself, and its files are for us alone', () => {
    expect(cifs().options).toEqual(
      ['guest', 'nosuid', 'nodev', 'noexec', 'noatime', 'soft', 'echo_interval=10', 'nobrl', 'vers=3.1.1'].concat([
        'iocharset=utf8',
        'file_mode=0600',
        'dir_mode=0700',
      ]),
    )
  })

  it('takes what the administrator says instead of ours, each once', () => {
    const options = nfs({ mount_options: ['timeo=50', 'soft', 'nfsvers=4.1', 'relatime'] }).options
    expect(options).toEqual(['nosuid', 'nodev', 'noexec', 'retrans=2', 'retry=0', 'timeo=50', 'soft', 'nfsvers=4.1', 'relatime'])
    expect(cifs({ mount_options: ['vers=3.0', 'nobrl'] }).options.filter((option) => /vers|nobrl/.test(option))).toEqual([
      'vers=3.0',
      'nobrl',
    ])
  })

  it('needs the password only with a user, and never names it', () => {
    expect(cifs()).toMatchObject({ credentialsId: null })
    const share = cifs({ username: 'backup user', domain: 'EXAMPLE' })
    expect(share.credentialsId).toBe('cred-1')
    expect(share.options.slice(0, 2)).toEqual(['username=backup user', 'domain=EXAMPLE'])
    expect(shareOf('smb', { server: 'nas', share_name: 'a' })).toEqual(cifs())
  })

  it.each<[RepositoryType, JsonObject]>([
    ['s3', {}],
    ['nfs', { server: 'nas', export_path: '/a,exec' }],
    ['cifs', { server: 'nas', share_name: 'a', mount_options: ['credentials=/etc/shadow'] }],
    ['local', { path: 'relative' }],
  ])('of a %s that says %j is refused, whatever the catalog holds', (type, config) => {
    expect(() => placeOf({ id: 'repo-a', type, config, credentialsId: null })).toThrow(
      expect.objectContaining({ code: 'REPO_INVALID' }),
    )
  })

  it('is used through the same code wherever it is seen', () => {
    expect(repositoryAt('/srv/mounts/repo-a', { id: 'repo-a', type: 'cifs' })).toMatchObject({
      type: 'cifs',
      root: '/srv/mounts/repo-a',
    })
  })
})
