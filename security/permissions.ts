/** Who may do what: one table, looked up by the API before every route. */

export const roles = ['admin', 'operator', 'viewer'] as const
export type Role = (typeof roles)[number]

/**
 * The verbs of the product and the least role for each.
 *
 * What names a path of the host is for admins, because the mover reads and writes as its own user: registering a VM from disk images
 * can read any file, registering a repository writes into any folder, a source connection uses the mover's own keys and sockets. So is what destroys.
 */
const leastRole = {
  'vm.view': 'viewer',
  'vm.register': 'admin',
  'vm.configure': 'operator',
  'source.view': 'viewer',
  'source.manage': 'admin',
  'source.test': 'admin',
  'source.discover': 'operator',
  'repository.view': 'viewer',
  'repository.manage': 'admin',
  'repository.test': 'admin',
  'repository.refresh': 'operator',
  'alert.view': 'viewer',
  'alert.acknowledge': 'operator',
  'repository.attest': 'operator',
  'backup.view': 'viewer',
  'backup.start': 'operator',
  'backup.cancel': 'operator',
  'backup.verify': 'operator',
  'backup.delete': 'admin',
  'restore.view': 'viewer',
  'restore.start': 'admin',
  'restore.cancel': 'operator',
  'mount.view': 'viewer',
  'mount.open': 'operator',
  'mount.release': 'operator',
  'file.read': 'operator',
  'audit.view': 'admin',
  'user.manage': 'admin',
} as const satisfies Record<string, Role>

export type Permission = keyof typeof leastRole

/** The table, for those who show it. */
export const leastRoles: Readonly<Record<Permission, Role>> = leastRole

const rank: Record<Role, number> = { viewer: 0, operator: 1, admin: 2 }

export function mayDo(role: Role, permission: Permission): boolean {
  return rank[role] >= rank[leastRole[permission]]
}

/** Whether `value` is a role; for text that comes back from tokens. */
export function isRole(value: unknown): value is Role {
  return typeof value === 'string' && (roles as readonly string[]).includes(value)
}
