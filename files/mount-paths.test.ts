import { describe, expect, it } from 'vitest'
import type { Volume } from '../domain/restore-mount.ts'
import { failureOf } from '../test/failure.ts'
import { locate } from './mount-paths.ts'

const volume = (id: string, changes: Partial<Volume> = {}): Volume => ({
  id,
  state: 'readable',
  fileSystem: 'ext4',
  label: '',
  uuid: '',
  sizeBytes: 1,
  note: '',
  ...changes,
})
const swap = volume('partition-3', { state: 'swap', fileSystem: 'swap' })
const vault = volume('partition-2', { state: 'encrypted', fileSystem: 'crypto_LUKS' })
const refusal = (volumes: Volume[], path: string) => failureOf(Promise.resolve().then(() => locate(volumes, path)))

describe('paths of a mount', () => {
  it('begin at the root of the only volume that can be read', () => {
    const root = volume('partition-1')
    expect(locate([root, vault, swap], '/')).toEqual({ kind: 'inside', volume: root, path: '' })
    expect(locate([root, vault, swap], '/partition-2/etc/')).toEqual({ kind: 'inside', volume: root, path: 'partition-2/etc' })
  })

  it('name the volume first when there are several', () => {
    const [root, home] = [volume('partition-1'), volume('vg0-home')]
    expect(locate([root, home, vault], '/')).toEqual({ kind: 'volumes' })
    expect(locate([root, home, vault], '/vg0-home')).toEqual({ kind: 'inside', volume: home, path: '' })
    expect(locate([root, home, vault], '/vg0-home//a/b')).toEqual({ kind: 'inside', volume: home, path: 'a/b' })
  })

  it('say what a volume is that cannot be read, and which there are', async () => {
    const volumes = [
      volume('a'),
      volume('b'),
      vault,
      volume('c', { state: 'damaged', fileSystem: 'xfs', note: 'bad superblock' }),
    ]
    expect(await refusal(volumes, '/partition-2/x')).toMatchObject({
      code: 'FILE_SYSTEM_UNREADABLE',
      message: 'The volume "partition-2" cannot be read: it is encrypted (crypto_LUKS).',
      details: { volume: 'partition-2', state: 'encrypted', file_system: 'crypto_LUKS' },
    })
    expect((await refusal(volumes, '/c')).message).toContain('it is damaged (xfs): bad superblock.')
    expect(await refusal(volumes, '/d/x')).toMatchObject({ code: 'FILE_NOT_FOUND', message: expect.stringContaining('"a", "b"') })
    expect(await refusal([swap, vault], '/')).toMatchObject({
      code: 'FILE_SYSTEM_UNREADABLE',
      message: expect.stringContaining('"partition-3" is swap space (swap); "partition-2" is encrypted (crypto_LUKS)'),
    })
  })

  it.each(['', 'etc', '/a/../b', '/./a', '/a\0b'])('refuse %j', async (path) => {
    expect((await refusal([volume('a')], path)).code).toBe('FILE_PATH_INVALID')
  })
})
