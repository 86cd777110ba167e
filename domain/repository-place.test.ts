import { assert, constantFrom, property, string } from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { RepositoryType } from './backup.ts'
import { checkPlace, placeKey, sharePasswordIssue } from './repository-place.ts'
import type { RepositoryPlace } from './repository-place.ts'

const nfs = { server: 'nas.example.com', export_path: '/exports/backups' }
const cifs = { server: '10.0.100.50', share_name: 'backups', domain: 'EXAMPLE', username: 'backup_user' }
const refusedFor = (path: string) =>
  expect.objectContaining({
    code: 'INVALID_REQUEST',
    details: { issues: expect.arrayContaining([expect.objectContaining({ path })]) },
  })

/** What would be another option, another argument, another line, another place or a command, wherever a shell or a parser split it. */
const injections = [
  'x,exec,suid',
  'x y\tz',
  'x\nhard',
  'x\0y',
  '-o',
  '--bind',
  '$(reboot)',
  '`reboot`',
  '; reboot',
  'x|reboot',
  "x'y",
  'x"y',
  'x\\040y',
  'x\\y',
  '../../etc',
  'x/../../etc',
  '%2e%2e%2f',
  'x=y',
  'x#y',
  '*',
  ' x',
  'x ',
  '\u2028x',
  '\ud800',
  '',
  'x'.repeat(4096),
]

describe('the place of a repository', () => {
  it('is what was written, completed', () => {
    expect(checkPlace('local', { path: '/srv/backups' })).toEqual({ type: 'local', config: { path: '/srv/backups' } })
    expect(checkPlace('nfs', nfs)).toEqual({ type: 'nfs', config: { ...nfs, mount_options: [] } })
    expect(checkPlace('nfs', { ...nfs, mount_options: ['ro', 'nolock'] }).config).toMatchObject({
      mount_options: ['ro', 'nolock'],
    })
    expect(checkPlace('cifs', cifs)).toEqual({ type: 'cifs', config: { ...cifs, mount_options: [] } })
    const guest = { server: 'nas', share_name: 'Sicherung der Büros$', domain: null, username: null, mount_options: ['seal'] }
    expect(checkPlace('smb', guest)).toEqual({ type: 'cifs', config: guest })
  })

  it('is normal when it is checked again', () => {
    const { config } = checkPlace('nfs', { server: 'NAS.Example.com', export_path: '/exports/backups/' })
    expect(config).toMatchObject({ server: 'nas.example.com', export_path: '/exports/backups' })
    expect(checkPlace('nfs', { ...config }).config).toEqual(config)
  })

  it.each<[RepositoryType, Record<string, unknown>, string]>([
    ['local', {}, 'config.path'],
    ['local', { path: 7 }, 'config.path'],
    ['local', { path: '/a', extra: true }, 'config'],
    ['nfs', { server: 'nas' }, 'config.export_path'],
    ['nfs', { ...nfs, mount_options: 'ro' }, 'config.mount_options'],
    ['nfs', { ...nfs, mount_options: [['ro']] }, 'config.mount_options'],
    ['nfs', { ...nfs, mount_options: Array<string>(33).fill('ro') }, 'config.mount_options'],
    ['nfs', { ...nfs, username: 'x' }, 'config'],
    ['cifs', { ...cifs, password: 'canary-1' }, 'config'],
    ['cifs', { ...cifs, share_name: undefined }, 'config.share_name'],
    ['cifs', { ...cifs, username: 7 }, 'config.username'],
    ['cifs', JSON.parse('{"server":"nas","share_name":"a","__proto__":"x"}'), 'config'],
  ])('%s refuses %j because of %s', (type, config, path) => {
    expect(() => checkPlace(type, config)).toThrow(refusedFor(path))
  })

  it('names every field that is wrong, and repeats no value', () => {
    const secret = 'canary,1'
    const config = {
      server: secret,
      share_name: secret,
      domain: secret,
      username: secret,
      mount_options: [secret, `password=${secret}`],
    }
    const paths = ['server', 'share_name', 'domain', 'username', 'mount_options.0', 'mount_options.1'].map(
      (name) => `config.${name}`,
    )
    let refusal: unknown
    try {
      checkPlace('cifs', config)
    } catch (error) {
      refusal = error
    }
    expect(refusal).toMatchObject({ details: { issues: paths.map((path) => expect.objectContaining({ path })) } })
    expect(JSON.stringify(refusal) + String(refusal)).not.toContain('canary')
  })

  it('of a type that does not exist yet is refused as such', () => {
    const unsupported = expect.objectContaining({ code: 'REPO_TYPE_UNSUPPORTED' })
    expect(() => checkPlace('s3', {})).toThrow(unsupported)
  })
})

describe('injection', () => {
  it.each(injections)('%j is refused in every field', (text) => {
    expect(() => checkPlace('local', { path: text })).toThrow(refusedFor('config.path'))
    expect(() => checkPlace('nfs', { ...nfs, server: text })).toThrow(refusedFor('config.server'))
    expect(() => checkPlace('nfs', { ...nfs, export_path: text })).toThrow(refusedFor('config.export_path'))
    expect(() => checkPlace('nfs', { ...nfs, mount_options: [text] })).toThrow(refusedFor('config.mount_options.0'))
    expect(() => checkPlace('nfs', { ...nfs, mount_options: [`port=${text}`] })).toThrow(refusedFor('config.mount_options.0'))
    expect(() => checkPlace('cifs', { ...cifs, mount_options: [`vers=${text}`] })).toThrow(refusedFor('config.mount_options.0'))
    expect(() => checkPlace('cifs', { ...cifs, domain: text })).toThrow(refusedFor('config.domain'))
    expect(() => checkPlace('cifs', { ...cifs, username: text })).toThrow(refusedFor('config.username'))
    expect(() => checkPlace('cifs', { ...cifs, share_name: text })).toThrow(refusedFor('config.share_name'))
  })

  it.each([
    '/a,exec',
    '/a b',
    '/a\tb',
    '/a\nb',
    '/a\\040b',
    '/a/../b',
    '/a/./b',
    '/a//b',
    '/a"b',
    '/..',
    '/a#b',
    '//a',
    '/a/%2e%2e',
  ])('the export %j is refused', (path) => {
    expect(() => checkPlace('nfs', { ...nfs, export_path: path })).toThrow(refusedFor('config.export_path'))
  })

  it.each(['a/b', 'a/../b', '..', '.', 'a\\b', 'IPC$/x', 'a:b', 'a%b', 'a@b', 'a,sec=none'])(
    'the share %j is refused',
    (name) => {
      expect(() => checkPlace('cifs', { ...cifs, share_name: name })).toThrow(refusedFor('config.share_name'))
    },
  )

  it.each(['u%password', 'D/u', 'D\\u', 'u,uid=0', 'u:x'])('the user name %j is refused', (username) => {
    expect(() => checkPlace('cifs', { ...cifs, username })).toThrow(refusedFor('config.username'))
  })

  it('no text at all gets a separator into what is mounted', () => {
    let accepted = 0
    const text = string({ unit: constantFrom(...'abü1.-_:$ ,=/\\\n;\0%"'.split('')), minLength: 1, maxLength: 6 })
    const check = property(text, text, text, (server, path, username) => {
      for (const [type, config] of [
        ['nfs', { server: 'nas', export_path: `/${path}` }],
        ['cifs', { server, share_name: 'a' }],
        ['cifs', { server: 'nas', share_name: path, username }],
      ] as const) {
        const place = placeOrNull(type, config)
        if (place === null) continue
        accepted += 1
        expect(Object.values(place.config).join('')).not.toMatch(/[\n,\\;%="\0]|\.\.\/|\/\//)
      }
    })
    assert(check, { numRuns: 2_000 })
    expect(accepted).toBeGreaterThan(100)
  })
})

function placeOrNull(type: RepositoryType, config: Record<string, unknown>): RepositoryPlace | null {
  try {
    return checkPlace(type, config)
  } catch {
    return null
  }
}

describe('a server', () => {
  it.each([
    ['nas', 'nas'],
    ['NAS.Example.COM', 'nas.example.com'],
    ['my_nas-1.lan', 'my_nas-1.lan'],
    ['192.168.0.1', '192.168.0.1'],
    ['::1', '::1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
  ])('%s is %s', (server, normal) => {
    expect(checkPlace('nfs', { ...nfs, server }).config).toMatchObject({ server: normal })
  })

  it.each([
    '127.1',
    '0x7f000001',
    '2130706433',
    '256.1.1.1',
    '01.2.3.4',
    '1.2.3.4.5',
    '[::1]',
    'fe80::1%eth0',
    '::1::',
    'a:b',
    'nas:2049',
    'nas:/export',
    '-nas',
    'nas-',
    '.nas',
    'nas..lan',
    'nas.',
    'nas/share',
    'user@nas',
    'näs',
    'a'.repeat(64),
  ])('%j is refused', (server) => {
    expect(() => checkPlace('cifs', { ...cifs, server })).toThrow(refusedFor('config.server'))
  })
})

describe('mount options', () => {
  const refused = refusedFor('config.mount_options.0')

  it.each(
    [
      'ro',
      'rw',
      'soft',
      'softerr',
      'nolock',
      'timeo=50',
      'retrans=2',
      'vers=4.2',
      'nfsvers=3',
      'proto=tcp6',
      'port=2049',
      'port=65535',
    ].concat([
      'rsize=1048576',
      'noatime',
      'sec=krb5p',
      'nconnect=16',
      'acregmin=3',
      'actimeo=0',
      'actimeo=3600',
      'noac',
      'lookupcache=none',
    ]),
  )('nfs takes %s', (option) => {
    expect(checkPlace('nfs', { ...nfs, mount_options: [option] }).config).toMatchObject({ mount_options: [option] })
  })

  it.each([
    'ro',
    'vers=3.1.1',
    'vers=2.1',
    'sec=ntlmssp',
    'seal',
    'port=445',
    'cache=none',
    'nobrl',
    'mfsymlinks',
    'echo_interval=60',
  ])('cifs takes %s', (option) => {
    expect(checkPlace('cifs', { ...cifs, mount_options: [option] }).config).toMatchObject({ mount_options: [option] })
  })

  it.each(
    [
      'hard',
      'bg',
      'exec',
      'suid',
      'dev',
      'credentials=/etc/shadow',
      'password=x',
      'pass=x',
      'uid=0',
      'uid',
      'file_mode=0777',
      'remount',
      'bind',
    ].concat(
      [
        'x-systemd.automount',
        'helper=/bin/sh',
        'context=x',
        'RO',
        'ro=1',
        'timeo',
        'timeo=',
        'timeo=601',
        'timeo=0',
        'retrans=99',
        'vers=2',
      ],
      [
        'vers=1.0',
        'port=0',
        'port=65536',
        'actimeo=3601',
        'actimeo=-1',
        'rsize=1',
        'proto=udp',
        'addr=10.0.0.1',
        'constructor',
        '__proto__',
      ],
      [
        'unc=//x/y',
        'prefixpath=..',
        'cache=loose',
        'nconnect=17',
        'sec=none',
        'echo_interval=0',
        'port=0445',
        'port= 445',
        'vers=3.1.1,exec',
      ],
    ),
  )('neither takes %s', (option) => {
    expect(() => checkPlace('nfs', { ...nfs, mount_options: [option] })).toThrow(refused)
    expect(() => checkPlace('cifs', { ...cifs, mount_options: [option] })).toThrow(refused)
  })

  it.each([
    ['ro', 'rw'],
    ['ro', 'ro'],
    ['soft', 'softerr'],
    ['vers=3', 'nfsvers=4'],
    ['timeo=10', 'timeo=20'],
  ])('%s and %s are not given together', (...mount_options) => {
    expect(() => checkPlace('nfs', { ...nfs, mount_options })).toThrow(refusedFor('config.mount_options.1'))
  })

  it('says why', () => {
    expect(() => checkPlace('nfs', { ...nfs, mount_options: ['hard'] })).toThrow(
      /hard mount keeps whatever touches it waiting for ever/,
    )
    expect(() => checkPlace('cifs', { ...cifs, mount_options: ['password=x'] })).toThrow(/sealed/)
  })
})

describe('the key of a place', () => {
  it.each<[RepositoryType, Record<string, unknown>, RepositoryType, Record<string, unknown>]>([
    ['nfs', nfs, 'nfs', { server: 'NAS.example.com', export_path: '/exports/backups/', mount_options: ['ro'] }],
    ['nfs', { ...nfs, server: '2001:db8::1' }, 'nfs', { ...nfs, server: '2001:0DB8:0:0::1' }],
    ['cifs', cifs, 'smb', { server: '10.0.100.50', share_name: 'BackUps' }],
    ['cifs', { ...cifs, share_name: 'BÜRO' }, 'cifs', { ...cifs, share_name: 'Bu\u0308ro'.normalize('NFC') }],
  ])('%s %j is that of %s %j', (type, config, otherType, other) => {
    expect(placeKey(type, config)).toBe(placeKey(otherType, other))
  })

  it('tells different places apart', () => {
    const keys = [
      placeKey('local', { path: '/srv/a' }),
      placeKey('local', { path: '/srv/b' }),
      placeKey('nfs', nfs),
      placeKey('nfs', { ...nfs, export_path: '/exports/Backups' }),
      placeKey('nfs', { ...nfs, server: 'nas' }),
      placeKey('cifs', cifs),
      placeKey('cifs', { ...cifs, share_name: 'backups$' }),
    ]
    expect(new Set(keys).size).toBe(keys.length)
  })
})

describe('the password of a share', () => {
  it.each(['x', 'ünïcode, with commas "and" quotes \\ and spaces ', 'a'.repeat(511)])('%j can be handed over', (password) => {
    expect(sharePasswordIssue(password)).toBeNull()
  })
  it.each(['', 'a\nb', 'a\0b', '\ud800', 'a'.repeat(512), 'ü'.repeat(256)])('%j cannot', (password) => {
    expect(sharePasswordIssue(password)).toEqual(expect.any(String))
  })
})
