import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { faultFileSystem } from '../test/fault-file-system.ts'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { mayHang, placeOf } from './hanging-file-systems.ts'

it('tells what lies on FUSE, also behind links and when it does not exist, without touching it', async () => {
  const system = await faultFileSystem()
  const local = await temporaryFolder()
  await symlink(system.folder, join(local, 'link'))
  await symlink('link/below', join(local, 'second'))
  await mkdir(join(local, 'plain'))
  await symlink('round', join(local, 'round'))
  await system.setFaults({ hang: true })
  for (const path of [system.folder, join(system.folder, 'not/there'), join(local, 'link/x'), join(local, 'second')]) {
    expect(await mayHang(path)).toBe(true)
  }
  for (const path of [local, join(local, 'plain'), join(local, 'not/there'), join(local, 'round'), '/']) {
    expect(await mayHang(path)).toBe(false)
  }
  const below = join(system.folder, 'below')
  expect(await placeOf(join(local, 'second/./x'))).toEqual({ path: join(below, 'x'), mayHang: true })
  expect(await placeOf(join(local, 'plain/../link'))).toEqual({ path: system.folder, mayHang: true })
  expect(await placeOf(join(local, 'not/there'))).toEqual({ path: join(local, 'not/there'), mayHang: false })
})
