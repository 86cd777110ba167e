import { describe, expect, it } from 'vitest'
import { isRole, leastRoles, mayDo } from './permissions.ts'
import type { Permission, Role } from './permissions.ts'

/** Written out on purpose: whoever changes the table must say so here too. */
const expected: Record<Permission, Role[]> = {
  'vm.view': ['admin', 'operator', 'viewer'],
  'vm.register': ['admin'],
  'vm.configure': ['admin', 'operator'],
  'source.view': ['admin', 'operator', 'viewer'],
  'source.manage': ['admin'],
  'source.test': ['admin'],
  'source.discover': ['admin', 'operator'],
  'repository.view': ['admin', 'operator', 'viewer'],
  'repository.manage': ['admin'],
  'repository.test': ['admin'],
  'repository.refresh': ['admin', 'operator'],
  'alert.view': ['admin', 'operator', 'viewer'],
  'alert.acknowledge': ['admin', 'operator'],
  'repository.attest': ['admin', 'operator'],
  'backup.view': ['admin', 'operator', 'viewer'],
  'backup.start': ['admin', 'operator'],
  'backup.cancel': ['admin', 'operator'],
  'backup.verify': ['admin', 'operator'],
  'backup.delete': ['admin'],
  'restore.view': ['admin', 'operator', 'viewer'],
  'restore.start': ['admin'],
  'restore.cancel': ['admin', 'operator'],
  'mount.view': ['admin', 'operator', 'viewer'],
  'mount.open': ['admin', 'operator'],
  'mount.release': ['admin', 'operator'],
  'file.read': ['admin', 'operator'],
  'audit.view': ['admin'],
  'user.manage': ['admin'],
}

describe('the permission table', () => {
  it.each(Object.entries(expected))('%s', (permission, allowed) => {
    expect(permission in leastRoles).toBe(true)
    for (const role of ['admin', 'operator', 'viewer'] as const) {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Object.entries forgets the names of its keys
      expect(mayDo(role, permission as Permission)).toBe(allowed.includes(role))
    }
  })

  it('names every permission of the product', () => {
    expect(Object.keys(leastRoles).sort()).toEqual(Object.keys(expected).sort())
  })
})

describe('isRole', () => {
  it('knows the three roles and nothing else', () => {
    expect(['admin', 'operator', 'viewer'].every(isRole)).toBe(true)
    for (const other of ['root', 'Admin', '', 'toString', null, undefined, 1, ['admin']]) expect(isRole(other)).toBe(false)
  })
})
