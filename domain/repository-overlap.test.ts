import { expect, test } from 'vitest'
import { liesIn, overlapOf } from './repository-overlap.ts'
import type { PlaceOfHost } from './repository-overlap.ts'

const folder = (path: string, hostId = 'local'): PlaceOfHost => ({ type: 'local', hostId, config: { path } })
const nfs = (server: string, export_path: string, hostId = 'local'): PlaceOfHost => ({
  type: 'nfs',
  hostId,
  config: { server, export_path },
})
const cifs = (server: string, share_name: string, type: 'cifs' | 'smb' = 'cifs'): PlaceOfHost => ({
  type,
  hostId: 'local',
  config: { server, share_name, username: null },
})

test.each([
  ['one folder', folder('/srv/a'), folder('/srv/a'), 'same'],
  ['a folder in another', folder('/srv/a/b'), folder('/srv/a'), 'nested'],
  ['a folder around another', folder('/srv'), folder('/srv/a'), 'nested'],
  ['two folders of one beginning', folder('/srv/a'), folder('/srv/ab'), null],
  ['one path on two hosts', folder('/srv/a'), folder('/srv/a', 'host-2'), null],
  ['one export, in two spellings', nfs('NAS', '/x/'), nfs('nas', '/x'), 'same'],
  ['one export, from two hosts', nfs('nas', '/x'), nfs('nas', '/x', 'host-2'), 'same'],
  ['an export in another', nfs('nas', '/x/y'), nfs('nas', '/x'), 'nested'],
  ['an export below the root', nfs('nas', '/x'), nfs('nas', '/'), 'nested'],
  ['one export of two servers', nfs('nas', '/x'), nfs('nas2', '/x'), null],
  ['one share, in two spellings and types', cifs('NAS', 'Backups'), cifs('nas', 'BACKUPS', 'smb'), 'same'],
  ['two shares', cifs('nas', 'a'), cifs('nas', 'a b'), null],
  ['an export and a folder of one path', nfs('nas', '/srv/a'), folder('/srv/a'), null],
])('%s', (_what, one, other, expected) => {
  expect(overlapOf(one, other)).toBe(expected)
  expect(overlapOf(other, one)).toBe(expected)
})

test('a folder lies in itself and in the root, not in one whose name goes on', () => {
  expect([liesIn('/a', '/a'), liesIn('/a', '/'), liesIn('/a/b', '/a'), liesIn('/ab', '/a'), liesIn('/a', '/a/b')]).toEqual([
    true,
    true,
    true,
    false,
    false,
  ])
})
