/** "nobody" and "nogroup": who reads disks, and may do nothing else. */
export const NOBODY = { uid: 65_534, gid: 65_534 }
