import { assert, property, string } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { failureOf } from '../../test/failure.ts'
import { explicitBackingTargets, newDomainXml, type NewDomain } from './domain-xml-edit.ts'
import { child, children, describeDomain, parseXml, text } from './domain-xml.ts'

const UUID = '7f3e2f0e-5a54-4a6d-9a53-111111111111'
const copy: NewDomain = {
  name: 'web copy',
  uuid: UUID,
  diskPaths: new Map([['vda', '/restored/web-copy-vda.qcow2']]),
  macAddressOf: (index) => `52:54:00:aa:bb:0${index}`,
  connectNetwork: false,
}

const original = (
  devices: string,
  more = '',
) => `<domain type='kvm' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  <uuid>00000000-1111-4222-8333-444444444444</uuid>
  <memory unit='KiB'>65536</memory>
  ${more}
  <devices>${devices}</devices>
</domain>`

const disk = (target: string, inside = '', attributes = `type='file' device='disk'`) =>
  `<disk ${attributes}><driver name='qemu' type='raw' cache='none'/><source file='/images/${target}.img'/>${inside}<target dev='${target}' bus='virtio'/></disk>`
const card = (inside = '', type = 'network') =>
  `<interface type='${type}'><mac address='52:54:00:00:00:01'/>${inside}</interface>`

function edited(devices: string, more = '', change: Partial<NewDomain> = {}) {
  const result = newDomainXml(original(devices, more), { ...copy, ...change })
  const root = parseXml(result.xml).documentElement!
  const all = child(root, 'devices')
  return { ...result, root, of: (name: string) => children(all, name) }
}

describe('what the copy must not share with the original', () => {
  test('name, UUID, id and generation id', () => {
    const { root, xml } = edited(disk('vda'), '<genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>')
    expect([text(root, 'name'), text(root, 'uuid'), root.hasAttribute('id'), text(root, 'genid')]).toEqual([
      'web copy',
      UUID,
      false,
      null,
    ])
    expect(child(root, 'genid')).not.toBeNull()
    expect(xml).not.toContain('00000000-1111-4222-8333-444444444444')
  })

  test('the UUID that the firmware shows, too: libvirt refuses a domain whose two differ', () => {
    const { xml } = edited(
      '',
      `<sysinfo type='smbios'><system><entry name='serial'>S-1</entry><entry name='uuid'>00000000-1111-4222-8333-444444444444</entry></system></sysinfo>`,
    )
    expect(xml).toContain(`<entry name="uuid">${UUID}</entry>`)
    expect(xml).toContain('S-1')
    expect(xml).not.toContain('00000000-1111')
  })

  test('disks: the restored QCOW2, alone', () => {
    const below = `<backingStore type='file'><format type='qcow2'/><source file='/images/base.qcow2'/><backingStore/></backingStore>`
    const { of, xml, warnings } = edited(disk('vda', `${below}<serial>S-9</serial><transient/><shareable/>`))
    const [only] = of('disk')
    expect(child(only!, 'source')!.getAttribute('file')).toBe('/restored/web-copy-vda.qcow2')
    expect(child(only!, 'driver')!.getAttribute('type')).toBe('qcow2')
    expect(child(only!, 'driver')!.getAttribute('cache')).toBe('none')
    expect(text(only!, 'serial')).toBe('S-9')
    for (const gone of ['/images/', 'backingStore', 'transient', 'shareable']) expect(xml).not.toContain(gone)
    expect(warnings).toEqual([])
  })

  test('a block device, a network disk and a LUN become files', () => {
    const { of } = edited(
      `<disk type='block' device='lun' rawio='yes'><source dev='/dev/sdb'><reservations managed='yes'/></source><target dev='sda' bus='scsi'/></disk>
       <disk type='network' device='disk'><source protocol='rbd' name='pool/x'><auth username='u'/></source><target dev='vda'/></disk>`,
      '',
      {
        diskPaths: new Map([
          ['sda', '/r/sda.qcow2'],
          ['vda', '/r/vda.qcow2'],
        ]),
      },
    )
    const seen = of('disk').map((one) => [
      one.getAttribute('type'),
      one.getAttribute('device'),
      one.hasAttribute('rawio'),
      children(one, 'source').map((source) => [...source.attributes].map(({ name, value }) => `${name}=${value}`).join()),
      child(child(one, 'source'), 'auth'),
    ])
    expect(seen).toEqual([
      ['file', 'disk', false, ['file=/r/sda.qcow2'], null],
      ['file', 'disk', false, ['file=/r/vda.qcow2'], null],
    ])
  })

  test('disks that are not restored are gone, drives are empty, and both are said', () => {
    const cd = `<disk type='file' device='cdrom'><source file='/iso/debian.iso'/><target dev='sda' bus='sata'/><readonly/></disk>`
    const empty = `<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>`
    const { of, warnings } = edited(disk('vda') + disk('vdb') + cd + empty)
    expect(of('disk').map((one) => child(one, 'target')!.getAttribute('dev'))).toEqual(['vda', 'sda', 'sdb'])
    expect(of('disk').map((one) => child(one, 'source') !== null)).toEqual([true, false, false])
    expect(warnings).toEqual([expect.stringContaining('vdb'), expect.stringContaining('sda')])
  })

  test('every network card has its own address and its cable pulled', () => {
    const port = `<target dev='vnet7'/><virtualport type='openvswitch'><parameters interfaceid='09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f'/></virtualport>`
    const { of, xml } = edited(
      card(`<link state='up'/><source network='lan'/>`) + card(port, 'bridge') + `<interface type='user'/>`,
    )
    expect(of('interface').map((one) => child(one, 'mac')!.getAttribute('address'))).toEqual([
      '52:54:00:aa:bb:00',
      '52:54:00:aa:bb:01',
      '52:54:00:aa:bb:02',
    ])
    expect(of('interface').map((one) => children(one, 'link').map((link) => link.getAttribute('state')))).toEqual([
      ['down'],
      ['down'],
      ['down'],
    ])
    expect(child(of('interface')[0]!, 'source')!.getAttribute('network')).toBe('lan')
    for (const gone of ['vnet7', 'interfaceid', '52:54:00:00:00:01']) expect(xml).not.toContain(gone)
  })

  test('connected when that is asked for; a link that was down stays down', () => {
    const { of } = edited(card() + card(`<link state='down'/>`), '', { connectNetwork: true })
    expect(of('interface').map((one) => child(one, 'link')?.getAttribute('state') ?? null)).toEqual([null, 'down'])
  })

  test('devices of the host are left out, each with a warning', () => {
    const { of, warnings, xml } = edited(
      `<hostdev mode='subsystem' type='pci' managed='yes'><source/></hostdev>${card('', 'hostdev')}${card()}
       <filesystem type='mount'><source dir='/export'/><target dir='x'/></filesystem>
       <tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>
       <memory model='nvdimm'><source><path>/tmp/nvdimm</path></source></memory><shmem name='shared'/><smartcard mode='host'/>`,
    )
    for (const gone of ['hostdev', 'filesystem', '/dev/tpm0', 'nvdimm"', 'shmem', 'smartcard']) expect(xml).not.toContain(gone)
    expect(of('interface')).toHaveLength(1)
    expect(warnings).toHaveLength(7)
    expect(warnings[0]).toContain('<hostdev type="pci" mode="subsystem">')
  })

  test('fresh firmware settings: from the template, without the original file', () => {
    const withTemplate = edited(
      '',
      `<os><loader type='pflash'>/usr/share/OVMF.fd</loader><nvram template='/usr/share/VARS.fd'>/nvram/web.fd</nvram></os>`,
    )
    expect(withTemplate.xml).toContain('<nvram template="/usr/share/VARS.fd"/>')
    expect(withTemplate.xml).toContain('/usr/share/OVMF.fd')
    const without = edited('', `<os firmware='efi'><nvram>/nvram/web.fd</nvram></os>`)
    expect(without.xml).not.toContain('nvram')
    const newer = edited('', `<os><nvram type='file'><source file='/nvram/web.fd'/></nvram></os>`)
    expect(newer.xml).not.toContain('nvram')
    for (const { warnings } of [withTemplate, without, newer]) expect(warnings).toEqual([expect.stringContaining('NVRAM')])
    expect(edited('', `<os><type>hvm</type></os>`).warnings).toEqual([])
  })

  test('ports, sockets, labels and addresses that only one domain can have', () => {
    const { xml, warnings } = edited(
      `<graphics type='vnc' port='5901' autoport='no' websocket='5701' listen='127.0.0.1'/><graphics type='egl-headless'/>
       <serial type='tcp'><source mode='bind' host='127.0.0.1' service='2445'/><protocol type='telnet'/><target port='0'/></serial>
       <console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/><log file='/var/log/web.log'/><target type='serial' port='0'/></console>
       <channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/web.agent'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
       <vsock model='virtio'><cid auto='no' address='3'/></vsock><tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>`,
      `<seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+64055</label></seclabel><seclabel type='none' model='selinux'/>`,
    )
    for (const gone of ['5901', '5701', '2445', 'telnet', 'pts', 'web.log', 'web.agent', 'address="3"', '64055'])
      expect(xml).not.toContain(gone)
    expect(xml).toContain('autoport="yes"')
    expect(xml).toContain('<graphics type="egl-headless"/>')
    expect(xml).toContain('model="selinux"')
    expect(xml).toContain('org.qemu.guest_agent.0')
    expect(warnings).toEqual([expect.stringContaining('TPM'), expect.stringContaining('serial')])
  })
})

describe('what is not ours to change', () => {
  test('namespaces, unknown elements and metadata stay; arguments for QEMU are pointed out', () => {
    const { xml, warnings, root } = edited(
      `${disk('vda', `<throttle:x xmlns:throttle='urn:t'/>`)}<future kind='1'><inside/></future>`,
      `<metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'><libosinfo:os id='http://debian.org/debian/12'/></libosinfo:libosinfo></metadata>
       <qemu:commandline><qemu:arg value='-foo'/></qemu:commandline><cputune><shares>7</shares></cputune>`,
    )
    expect(root.lookupNamespaceURI('qemu')).toBe('http://libvirt.org/schemas/domain/qemu/1.0')
    for (const kept of ['<qemu:arg value="-foo"/>', 'urn:t', '<future kind="1"><inside/></future>', '<shares>7</shares>'])
      expect(xml).toContain(kept)
    expect(describeDomain(xml).osId).toBe('http://debian.org/debian/12')
    expect(warnings).toEqual([expect.stringContaining('<qemu:commandline>')])
  })

  test('a definition without devices, name or UUID still becomes one', () => {
    const { xml } = newDomainXml(`<domain type='qemu'><memory>1</memory></domain>`, copy)
    expect(describeDomain(xml)).toMatchObject({ name: 'web copy', uuid: UUID, disks: [] })
  })
})

describe('names', () => {
  test.each([
    `<&>"'`,
    ']]>',
    '&amp;',
    'ünï cödé 虚拟机',
    `a'b"c`,
    '--connect',
    '  spaces  ',
    '$(rm -rf /)',
    'two\u2028lines\u2029three',
  ])('%j arrive as they are', (name) => {
    const path = `/restored/${name}/vda.qcow2`
    const { xml } = newDomainXml(original(disk('vda')), { ...copy, name, diskPaths: new Map([['vda', path]]) })
    const root = parseXml(xml).documentElement!
    expect(child(root, 'name')!.textContent).toBe(name)
    expect(describeDomain(xml).disks[0]!.path).toBe(path)
  })

  test('whatever can be typed', () => {
    const typed = string({ unit: 'grapheme', minLength: 1 }).filter((value) => !/[\p{Cc}\p{Cs}\uFFFE\uFFFF]/u.test(value))
    assert(
      property(typed, typed, (name, path) => {
        const { xml } = newDomainXml(original(disk('vda')), { ...copy, name, diskPaths: new Map([['vda', `/${path}`]]) })
        const root = parseXml(xml).documentElement!
        expect(child(root, 'name')!.textContent).toBe(name)
        expect(child(child(child(root, 'devices'), 'disk'), 'source')!.getAttribute('file')).toBe(`/${path}`)
        expect(children(root, 'name')).toHaveLength(1)
      }),
    )
  })
})

test.each([
  '',
  'no xml',
  '<network><name>x</name></network>',
  '<domain>',
  '<!DOCTYPE d [<!ENTITY x "y">]><network>&x;</network>',
])('%j: RESTORE_TARGET_INVALID', async (xml) => {
  expect((await failureOf(Promise.resolve().then(() => newDomainXml(xml, copy)))).code).toBe('RESTORE_TARGET_INVALID')
})

test('finds disks whose definition names what lies below them', () => {
  const below = `<backingStore type='file'><source file='/images/base.qcow2'/></backingStore>`
  expect(explicitBackingTargets(original(disk('vda') + disk('vdb', below) + disk('vdc', '<backingStore/>')))).toEqual(['vdb'])
})
