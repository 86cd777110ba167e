import { inspect } from 'node:util'
import { assert, property, string } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HoldfastError, type JsonObject } from '../../domain/errors.ts'
import { LibvirtConnection } from './connection.ts'
import { parseConnectionUri } from './connection-uri.ts'
import { socketCandidates } from './ssh-socket.ts'

function refusal(work: () => unknown): HoldfastError {
  try {
    work()
  } catch (error) {
    if (error instanceof HoldfastError) return error
    throw error
  }
  return expect.unreachable('this should have been refused')
}

describe('connection URIs', () => {
  it.each([
    ['qemu:///system', { transport: 'local', path: '/system', host: null, socket: null }],
    ['qemu:///session', { transport: 'local', path: '/session' }],
    ['qemu+unix:///system?socket=/run/x%20y/libvirt-sock', { transport: 'local', socket: '/run/x y/libvirt-sock' }],
    ['qemu+ssh://host/system', { transport: 'ssh', host: 'host', user: null, port: null }],
    ['qemu+ssh://root@kvm-1.example.org:2222/system', { host: 'kvm-1.example.org', user: 'root', port: 2222 }],
    ['qemu+ssh://backup@[2001:db8::1]:22/system', { host: '2001:db8::1', user: 'backup', port: 22 }],
    ['qemu+ssh://192.0.2.1/session?mode=direct', { host: '192.0.2.1', path: '/session', mode: 'direct' }],
    ['qemu+ssh://h/system?socket=/a&mode=legacy', { socket: '/a', mode: 'legacy' }],
  ])('takes %s', (text, expected) => {
    expect(parseConnectionUri(text)).toMatchObject({ text, ...expected })
  })

  it.each([
    ['', 'it is not a URI'],
    ['system', 'it is not a URI'],
    ['qemu+tcp://host/system', 'scheme'],
    ['qemu+tls://host/system', 'scheme'],
    ['qemu+ext:///system?command=/bin/sh', 'scheme'],
    ['qemu+libssh2://host/system', 'scheme'],
    ['xen:///system', 'scheme'],
    ['test:///default', 'scheme'],
    ['http://host/system', 'scheme'],
    ['file:///system', 'scheme'],
    ['qemu+ssh:///system', 'host'],
    ['qemu+ssh://-oProxyCommand=id/system', 'host'],
    ['qemu+ssh://-oProxyCommand=touch%20x/system', 'host'],
    ['qemu+ssh://a_b$(id)/system', 'host'],
    ['qemu+ssh://h;id/system', 'host'],
    ['qemu+ssh://bücher.example/system', 'host'],
    ['qemu+ssh://ho%00st/system', 'host'],
    ['qemu+ssh://-l@host/system', 'user'],
    ['qemu+ssh://-oProxyCommand=id@host/system', 'user'],
    ['qemu+ssh://a%20b@host/system', 'user'],
    ['qemu+ssh://%zz@host/system', 'user'],
    ['qemu+ssh://röt@host/system', 'user'],
    ['qemu+ssh://host:0/system', 'port'],
    ['qemu+ssh://host:99999/system', 'URI'],
    ['qemu+ssh://host:22x/system', 'URI'],
    ['qemu+ssh://host/', 'path'],
    ['qemu+ssh://host', 'path'],
    ['qemu+ssh://host/embed', 'path'],
    ['qemu+ssh://host/system/../../etc', 'path'],
    ['qemu+ssh://host/system#x', 'fragment'],
    ['qemu+ssh://host/system?command=/tmp/evil', '"command"'],
    ['qemu+ssh://host/system?netcat=/tmp/evil', '"netcat"'],
    ['qemu+ssh://host/system?keyfile=/root/.ssh/id_rsa', '"keyfile"'],
    ['qemu+ssh://host/system?no_verify=1', '"no_verify"'],
    ['qemu+ssh://host/system?known_hosts=/dev/null', '"known_hosts"'],
    ['qemu+ssh://host/system?known_hosts_verify=ignore', '"known_hosts_verify"'],
    ['qemu+ssh://host/system?sshauth=password', '"sshauth"'],
    ['qemu+ssh://host/system?Socket=/a', '"Socket"'],
    ['qemu:///system?authfile=/etc/shadow', '"authfile"'],
    ['qemu:///system?socket=relative', 'absolute path'],
    ['qemu:///system?socket=', 'absolute path'],
    ['qemu:///system?socket=/a%00b', 'absolute path'],
    ['qemu:///system?socket=/a%0ab', 'absolute path'],
    ['qemu:///system?socket=/a&socket=/b', 'twice'],
    ['qemu:///system?socket=/a;authfile=/etc/shadow', 'divided by "&"'],
    ['qemu:///system?mode=other', '"mode"'],
    ['qemu://host/system', 'no host'],
    ['qemu+unix://host/system', 'no host'],
    ['qemu://root@/system', ''],
    ['qemu:///sys\ntem', 'control'],
    ['qemu+ssh://ho\tst/system', 'control'],
    ['qemu+ssh://ho st/system', 'spaces'],
    [' qemu:///system', 'spaces'],
    ['qemu:///system\0', 'control'],
  ])('refuses %j', (text, reason) => {
    const error = refusal(() => parseConnectionUri(text))
    expect(error).toMatchObject({ code: 'SOURCE_INVALID', retryable: false })
    expect(error.message).toContain(reason)
  })

  it.each([
    'qemu+ssh://root:s3cret@host/system',
    'qemu+ssh://root:s3cret/x@host/system',
    'qemu+ssh://root:s3@cret@host/system',
    'qemu+ssh://root:s3cret@host:bad/system',
    'http://s3cret@host/system',
  ])('does not repeat a password: %s', (text) => {
    const error = refusal(() => parseConnectionUri(text))
    expect(inspect(error) + JSON.stringify(error)).not.toMatch(/s3cret|cret@/)
  })

  it('answers with SOURCE_INVALID or an address that is no option, whatever it is given', () => {
    const addressOf = (text: string): string => {
      try {
        const { host, user } = parseConnectionUri(text)
        return `${host ?? ''} ${user ?? ''}`
      } catch (error) {
        return error instanceof HoldfastError ? error.code : `not ours: ${String(error)}`
      }
    }
    const pieces = string({ unit: 'grapheme', maxLength: 20 })
    assert(
      property(pieces, pieces, pieces, (user, host, rest) => {
        const texts = [`qemu+ssh://${user}@${host}/system?${rest}`, `qemu+ssh://${host}/${rest}`, user + host + rest]
        for (const text of texts) expect(addressOf(text)).toMatch(/^(SOURCE_INVALID|([a-zA-Z0-9:][\w.:-]*)? (\w[\w.-]*)?)$/)
      }),
    )
  })
})

const key = '-----BEGIN OPENSSH PRIVATE KEY-----\nY2FuYXJ5Y2FuYXJ5\n-----END OPENSSH PRIVATE KEY-----\n'

function connect(config: JsonObject, credentials: JsonObject | null = null): LibvirtConnection {
  return new LibvirtConnection({ id: 'source-1', config, credentials }, '/nonexistent')
}

describe('connections', () => {
  const ssh = { uri: 'qemu+ssh://root@host/system' }

  it('take what is needed', () => {
    const connection = connect({ ...ssh, scratch_folder: '/var/lib/holdfast//' }, { ssh_private_key: key })
    expect(connection.scratchFolder).toBe('/var/lib/holdfast')
    expect(connection.sshTarget).toMatchObject({ host: 'host', user: 'root', knownHosts: null })
    expect(connection.sshTarget?.privateKey?.()).toBe(key)
    expect(connect({ uri: 'qemu:///system', scratch_folder: '/' })).toMatchObject({ scratchFolder: '/', sshTarget: null })
  })

  it('show their key to nobody', () => {
    const connection = connect(ssh, { ssh_private_key: key })
    expect(inspect(connection, { depth: 9, showHidden: true }) + JSON.stringify(connection)).not.toContain('Y2FuYXJ5')
  })

  it.each<[string, JsonObject, JsonObject | null]>([
    ['no URI', {}, null],
    ['a URI that is no text', { uri: 7 }, null],
    ['a long URI', { uri: `qemu:///system?socket=/${'x'.repeat(2000)}` }, null],
    ['an unknown setting', { ...ssh, password: 'Y2FuYXJ5' }, null],
    ['a relative scratch folder', { ...ssh, scratch_folder: 'tmp' }, null],
    ['an empty scratch folder', { ...ssh, scratch_folder: '' }, null],
    ['a scratch folder with dots', { ...ssh, scratch_folder: '/var/../etc' }, null],
    ['a scratch folder with a line end', { ...ssh, scratch_folder: '/var\n/etc' }, null],
    ['a scratch folder with a NUL', { ...ssh, scratch_folder: '/var\0' }, null],
    ['known hosts that are no text', { ...ssh, ssh_known_hosts: ['x'] }, null],
    ['a key that is none', ssh, { ssh_private_key: 'Y2FuYXJ5' }],
    ['a public key', ssh, { ssh_private_key: 'ssh-ed25519 Y2FuYXJ5' }],
    ['a key that is no text', ssh, { ssh_private_key: ['Y2FuYXJ5'] }],
    ['other credentials', ssh, { password: 'Y2FuYXJ5' }],
    ['more credentials', ssh, { ssh_private_key: key, passphrase: 'Y2FuYXJ5' }],
  ])('refuse %s, without repeating secrets', (_, config, credentials) => {
    const error = refusal(() => connect(config, credentials))
    expect(error.code).toBe('SOURCE_INVALID')
    expect(inspect(error, { depth: 9 }) + JSON.stringify(error)).not.toContain('Y2FuYXJ5')
  })
})

describe("libvirt's sockets behind SSH", () => {
  it.each([
    ['qemu+ssh://h/system', ['/run/libvirt/virtqemud-sock', '/run/libvirt/libvirt-sock']],
    ['qemu+ssh://h/system?mode=legacy', ['/run/libvirt/libvirt-sock']],
    ['qemu+ssh://h/session?mode=direct', ['~/libvirt/virtqemud-sock']],
    ['qemu+ssh://h/system?socket=/x/y', ['/x/y']],
  ])('%s', (uri, sockets) => {
    expect(socketCandidates(parseConnectionUri(uri))).toEqual(sockets)
  })
})
