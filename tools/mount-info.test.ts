import { describe, expect, it } from 'vitest'
import { mountAt, mountOver, parseMountInfo, readMountInfo } from './mount-info.ts'

const text = `21 26 0:20 / /sys rw,nosuid,nodev - sysfs sysfs rw
26 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
90 26 0:50 / /srv/a\\040b\\011c\\134d\\012e rw,noatime shared:30 master:2 propagate_from:3 - nfs4 127.0.0.1:/exports/büro rw,softerr
91 26 0:51 / /mnt rw - cifs //nas/Our\\040backups rw,vers=3.1.1
92 91 0:52 /sub /mnt rw - tmpfs none rw
93 26 0:53 / /mnt/below rw - fuse.sshfs - rw

half a line`

describe('what is mounted', () => {
  const entries = parseMountInfo(text)

  it('is read from every whole line', () => {
    expect(entries.map(({ fileSystem }) => fileSystem)).toEqual(['sysfs', 'ext4', 'nfs4', 'cifs', 'tmpfs', 'fuse.sshfs'])
    expect(entries[2]).toEqual({
      mountPoint: '/srv/a b\tc\\d\ne',
      fileSystem: 'nfs4',
      source: '127.0.0.1:/exports/büro',
      device: '0:50',
      root: '/',
    })
    expect(entries[4]).toMatchObject({ device: '0:52', root: '/sub' })
    expect(entries[3]?.source).toBe('//nas/Our backups')
    expect(entries[5]?.source).toBe('-')
  })

  it('at a place is what was mounted there last', () => {
    expect(mountAt(entries, '/mnt')?.fileSystem).toBe('tmpfs')
    expect(mountAt(entries, '/mnt/')).toBeNull()
    expect(mountAt(entries, '/srv')).toBeNull()
  })

  it('over a path is the nearest', () => {
    expect(mountOver(entries, '/mnt/x/y')?.fileSystem).toBe('tmpfs')
    expect(mountOver(entries, '/mnt/below/x')?.fileSystem).toBe('fuse.sshfs')
    expect(mountOver(entries, '/mnt/belowx')?.fileSystem).toBe('tmpfs')
    expect(mountOver(entries, '/srv/x')?.fileSystem).toBe('ext4')
    expect(mountOver([], '/srv')).toBeNull()
  })

  it('is what this host says', async () => {
    expect(mountAt(await readMountInfo(), '/proc')).toMatchObject({ fileSystem: 'proc' })
  })
})
