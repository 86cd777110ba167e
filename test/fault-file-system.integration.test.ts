import { link, mkdir, open, readFile, readdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { createFaultFileSystem, type FaultFileSystem } from './fault-file-system.ts'

let system: FaultFileSystem
beforeAll(async () => {
  system = await createFaultFileSystem()
})
beforeEach(() => system.setFaults())
afterAll(() => system.close())

it('passes files, folders, links and space through', async () => {
  const { folder, behind } = system
  await mkdir(join(folder, 'one'))
  await writeFile(join(folder, 'one/file'), 'content')
  await link(join(folder, 'one/file'), join(folder, 'other'))
  await rename(join(folder, 'one'), join(folder, 'two'))
  expect(await readFile(join(behind, 'two/file'), 'utf8')).toBe('content')
  expect((await readdir(folder)).sort()).toEqual(['other', 'two'])
  expect((await stat(join(folder, 'other'))).nlink).toBe(2)
  expect((await statfs(folder)).blocks).toBe((await statfs(behind)).blocks)
})

it('keeps what is open when its name goes', async () => {
  const file = await open(join(system.folder, 'gone'), 'w+')
  await rm(join(system.folder, 'gone'))
  await file.write('still here')
  await file.sync()
  expect((await file.read(Buffer.alloc(20), 0, 20, 0)).bytesRead).toBe(10)
  await file.close()
  expect(await readdir(system.behind)).not.toContain('gone')
})

it.for(['EIO', 'ESTALE', 'ENOSPC', 'EROFS'] as const)('fails with %s', async (errno) => {
  // libuv has no name for ESTALE.
  const number = -constants.errno[errno]
  await system.setFaults({ operations: ['writes'], errno })
  await expect(writeFile(join(system.folder, errno), 'text')).rejects.toMatchObject({ errno: number })
  await system.setFaults()
  await writeFile(join(system.folder, errno), 'text')
})

it('hangs in chosen places only, and goes on as if nothing had been', async () => {
  await writeFile(join(system.folder, 'dead'), '')
  await system.setFaults({ operations: ['write'], path: '/dead', hang: true })
  let ended = false
  const writing = writeFile(join(system.folder, 'dead'), 'at last').then(() => (ended = true))
  await writeFile(join(system.folder, 'alive'), 'at once')
  expect(ended).toBe(false)
  await system.setFaults()
  await writing
  expect(await readFile(join(system.behind, 'dead'), 'utf8')).toBe('at last')
})

it('ends what hangs when it is closed', async () => {
  const other = await createFaultFileSystem()
  await other.setFaults({ hang: true })
  const hanging = stat(join(other.folder, 'any')).catch((error: unknown) => error)
  await other.close()
  expect(await hanging).toMatchObject({ code: expect.stringMatching(/ECONNABORTED|ENOTCONN|EIO/) })
})
