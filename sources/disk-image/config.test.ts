import { describe, expect, it } from 'vitest'
import type { JsonObject } from '../../domain/errors.ts'
import { completeConfig, imageDisks } from './config.ts'
import { parseNbdUri } from './nbd-uri.ts'

const invalid = expect.objectContaining({ code: 'SOURCE_INVALID' })

describe('the configuration of a VM of disk images', () => {
  it('takes the format from the name, never from the content', () => {
    const paths = ['/a/x.raw', '/a/x.IMG', '/a/x.qcow2', '/a/x.vmdk', '/a/x.vhdx']
    expect(imageDisks({ disks: paths.map((path) => ({ path })) }).map((disk) => disk.format)).toEqual([
      'raw',
      'raw',
      'qcow2',
      'vmdk',
      'vhdx',
    ])
    expect(imageDisks({ disks: [{ path: '/a/x.qcow2', format: 'raw' }] })[0]).toMatchObject({ format: 'raw' })
  })

  it('names disks by what was given, else by where they are, and stays the same when completed', () => {
    const config = {
      disks: [{ path: '/a/./x.raw' }, { key: 'k', label: 'l', path: '/b.img' }, { uri: 'nbd+unix:///e?socket=/run/s' }],
    }
    const disks = imageDisks(config)
    expect(disks.map(({ key, label }) => [key, label])).toEqual([
      ['/a/x.raw', 'x.raw'],
      ['k', 'l'],
      ['nbd+unix:///e?socket=/run/s', 'e'],
    ])
    expect(imageDisks(completeConfig(disks))).toEqual(disks)
  })

  it.each<[string, JsonObject]>([
    ['no disks', {}],
    ['an empty list', { disks: [] }],
    ['a relative path', { disks: [{ path: 'x.raw' }] }],
    ['a path with a NUL', { disks: [{ path: '/x\0.raw' }] }],
    ['an unknown extension', { disks: [{ path: '/x.bin' }] }],
    ['an unknown format', { disks: [{ path: '/x.raw', format: 'vdi' }] }],
    ['an unknown member', { disks: [{ path: '/x.raw', probe: true }] }],
    ['a path and a URI', { disks: [{ path: '/x.raw', uri: 'nbd://localhost' }] }],
    ['two disks of one path', { disks: [{ path: '/x.raw' }, { path: '//x.raw' }] }],
    [
      'two disks of one key',
      {
        disks: [
          { key: 'a', path: '/x.raw' },
          { key: 'a', path: '/y.raw' },
        ],
      },
    ],
    ['a host that nobody allowed', { disks: [{ uri: 'nbd://example.org/x' }] }],
    ['a host that only looks like loopback', { disks: [{ uri: 'nbd://127.0.0.1.example.org/x' }] }],
  ])('refuses %s', (_, config) => {
    expect(() => imageDisks(config)).toThrow(invalid)
  })

  it('allows the hosts that the administrator named, and loopback', () => {
    expect(imageDisks({ disks: [{ uri: 'nbd://backup.lan:10810/x' }] }, ['backup.lan'])).toHaveLength(1)
    expect(
      imageDisks({ disks: ['nbd://localhost', 'nbd://[::1]:2/x', 'nbd://127.1.2.3/x'].map((uri) => ({ uri })) }),
    ).toHaveLength(3)
  })
})

describe('an NBD URI', () => {
  it.each([
    ['nbd://localhost', { type: 'tcp', host: 'localhost', port: 10_809, exportName: '' }],
    ['nbd://[::1]:2/a%20b', { type: 'tcp', host: '::1', port: 2, exportName: 'a b' }],
    ['nbd+unix:///?socket=/run/a%26b', { type: 'unix', path: '/run/a&b', exportName: '' }],
    ['nbd+unix:///disk/0?socket=/run/s', { type: 'unix', path: '/run/s', exportName: 'disk/0' }],
  ])('%s is understood', (uri, endpoint) => {
    expect(parseNbdUri(uri)).toEqual(endpoint)
  })

  it.each([
    'not a uri',
    'nbds://localhost/x',
    'http://localhost/',
    'nbd:///x',
    'nbd+unix:///x',
    'nbd+unix:///x?socket=relative',
    'nbd+unix://host/x?socket=/s',
    'nbd://localhost/%zz',
  ])('%s is refused', (uri) => {
    expect(() => parseNbdUri(uri)).toThrow(invalid)
  })

  it.each(['nbd://me:canary@localhost/', 'nbd://me:canary@:x'])('with a password is refused without repeating it: %s', (uri) => {
    expect(() => parseNbdUri(uri)).toThrow(/^(?!.*canary)/)
  })
})
