import { mkdtemp, readdir, realpath, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import type { MountedShare, Mounter, SealedShare, Share } from '../repositories/share-mounts.ts'
import { ShareDesk } from './share-desk.ts'

const nfs: SealedShare = { fileSystem: 'nfs', source: 'nas:/a', options: ['softerr'], credentialsId: null }
const cifs: SealedShare = { fileSystem: 'cifs', source: '//nas/a', options: ['soft'], credentialsId: 'cred-1' }
const failure = (code: 'CONNECTION_FAILED' | 'REPO_UNAVAILABLE' | 'REPO_BUSY') => new HoldfastError(code, `it is ${code}`)

/** A mounter that remembers instead of mounting. */
class PretendedMounts {
  readonly layers = new Map<string, MountedShare[]>()
  readonly mounter = {
    mount: vi.fn<Mounter['mount']>(async (share: Share, mountPoint) => {
      const fileSystem = share.fileSystem === 'nfs' ? 'nfs4' : share.fileSystem
      this.layers.set(mountPoint, [...(this.layers.get(mountPoint) ?? []), { fileSystem, source: share.source }])
    }),
    unmount: vi.fn<Mounter['unmount']>(async (mountPoint) => {
      this.layers.get(mountPoint)?.pop()
    }),
    mounted: vi.fn<Mounter['mounted']>(async (mountPoint) => this.layers.get(mountPoint)?.at(-1) ?? null),
  }
}

let folder: string
let mounts: PretendedMounts
let desk: ShareDesk
const root = (id: string): string => join(folder, 'mounts', id)
const newDesk = (): ShareDesk =>
  new ShareDesk({
    folder: join(folder, 'mounts'),
    mounter: mounts.mounter,
    passwordOf: async (id) => `password of ${id}`,
    patienceMs: 200,
  })

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'holdfast-desk-')))
  mounts = new PretendedMounts()
  desk = newDesk()
})
afterEach(() => rm(folder, { recursive: true }))

describe('mounting', () => {
  it('happens once for all who ask, into a folder that is ours alone', async () => {
    const roots = await Promise.all([desk.ensure('repo-a', nfs), desk.ensure('repo-a', nfs), desk.mount('repo-a', nfs)])
    expect(roots).toEqual([root('repo-a'), root('repo-a'), root('repo-a')])
    await desk.ensure('repo-a', nfs)
    expect(mounts.mounter.mount).toHaveBeenCalledOnce()
    expect((await stat(root('repo-a'))).mode & 0o777).toBe(0o700)
    expect(await desk.state('repo-a')).toEqual({
      mounted: true,
      mountPoint: root('repo-a'),
      fileSystem: 'nfs4',
      source: 'nas:/a',
    })
  })

  it('hands over the password, opened only when it is needed', async () => {
    await desk.ensure('repo-a', cifs)
    expect(mounts.mounter.mount.mock.calls[0]?.[0]).toEqual({
      fileSystem: 'cifs',
      source: '//nas/a',
      options: ['soft'],
      password: 'password of cred-1',
    })
  })

  it('finds what an earlier process mounted', async () => {
    await desk.ensure('repo-a', nfs)
    await newDesk().ensure('repo-a', { ...nfs, source: 'nas:/a/' })
    expect(mounts.mounter.mount).toHaveBeenCalledOnce()
  })

  it('replaces what else is mounted there, and the same with other options', async () => {
    await desk.ensure('repo-a', nfs)
    await desk.ensure('repo-a', cifs)
    expect(mounts.layers.get(root('repo-a'))).toEqual([{ fileSystem: 'cifs', source: '//nas/a' }])
    await desk.ensure('repo-a', { ...cifs, options: ['soft', 'seal'] })
    expect(mounts.mounter.mount).toHaveBeenCalledTimes(3)
    expect(mounts.layers.get(root('repo-a'))).toHaveLength(1)
  })

  it('uses no other share that is in use there, but the same one with its old options', async () => {
    await desk.ensure('repo-a', nfs)
    mounts.mounter.unmount.mockRejectedValue(failure('REPO_BUSY'))
    await expect(desk.ensure('repo-a', cifs)).rejects.toMatchObject({ code: 'REPO_BUSY' })
    expect(await desk.ensure('repo-a', { ...nfs, options: ['soft'] })).toBe(root('repo-a'))
    expect(mounts.mounter.mount).toHaveBeenCalledOnce()
  })

  it('that fails is said as it is to who asks for it, as a passing thing to who works, and tried again', async () => {
    mounts.mounter.mount.mockRejectedValueOnce(failure('CONNECTION_FAILED')).mockRejectedValueOnce(failure('CONNECTION_FAILED'))
    await expect(desk.mount('repo-a', nfs)).rejects.toMatchObject({ code: 'CONNECTION_FAILED' })
    expect(await desk.state('repo-a')).toEqual({ mounted: false, reason: 'it is CONNECTION_FAILED' })
    await expect(desk.ensure('repo-a', nfs)).rejects.toMatchObject({ code: 'REPO_UNAVAILABLE', retryable: true })
    await desk.ensure('repo-a', nfs)
    expect(await desk.state('repo-a')).toMatchObject({ mounted: true })
  })

  it('that seemed to work and did not is no success', async () => {
    mounts.mounter.mount.mockResolvedValueOnce()
    await expect(desk.ensure('repo-a', nfs)).rejects.toMatchObject({ code: 'REPO_UNAVAILABLE' })
  })

  it('that never comes back holds nobody for ever, and no other repository at all', async () => {
    mounts.mounter.mount.mockImplementationOnce(() => new Promise(() => undefined))
    const stuck = desk.ensure('repo-a', nfs)
    expect(await desk.ensure('repo-b', nfs)).toBe(root('repo-b'))
    await expect(stuck).rejects.toMatchObject({ code: 'REPO_UNAVAILABLE' })
    await expect(desk.release('repo-a', { lazy: true })).rejects.toMatchObject({ code: 'REPO_UNAVAILABLE' })
  })

  it('is not waited for by who was called off, and goes on for the others', async () => {
    const gate = Promise.withResolvers<void>()
    const real = mounts.mounter.mount.getMockImplementation()
    mounts.mounter.mount.mockImplementationOnce(async (...args) => {
      await gate.promise
      await real?.(...args)
    })
    const leaving = new AbortController()
    const left = desk.ensure('repo-a', nfs, { signal: leaving.signal })
    const staying = desk.ensure('repo-a', nfs)
    leaving.abort(new Error('called off'))
    await expect(left).rejects.toThrow('called off')
    gate.resolve()
    expect(await staying).toBe(root('repo-a'))
  })

  it.each(['../etc', 'a/b', '', '.', 'a b'])('never leaves its folder for the id %j', async (id) => {
    await expect(desk.ensure(id, nfs)).rejects.toMatchObject({ code: 'REPO_INVALID' })
  })
})

describe('unmounting', () => {
  it('takes all away that lies there, with the folder, as often as it is asked', async () => {
    await desk.ensure('repo-a', nfs)
    mounts.layers.get(root('repo-a'))?.push({ fileSystem: 'tmpfs', source: 'none' })
    await desk.release('repo-a', { lazy: false })
    await desk.release('repo-a', { lazy: false })
    expect(await desk.state('repo-a')).toEqual({ mounted: false, reason: null })
    expect(await readdir(join(folder, 'mounts'))).toEqual([])
  })

  it('is refused while it is in use, and forced lazily', async () => {
    await desk.ensure('repo-a', nfs)
    mounts.mounter.unmount.mockRejectedValueOnce(failure('REPO_BUSY'))
    await expect(desk.release('repo-a', { lazy: false })).rejects.toMatchObject({ code: 'REPO_BUSY' })
    await desk.release('repo-a', { lazy: true })
    expect(mounts.mounter.unmount).toHaveBeenLastCalledWith(root('repo-a'), { lazy: true })
  })

  it('of a share that does not answer is lazy by itself', async () => {
    await desk.ensure('repo-a', nfs)
    mounts.mounter.unmount.mockRejectedValueOnce(failure('REPO_UNAVAILABLE'))
    await desk.release('repo-a', { lazy: false })
    expect(mounts.mounter.unmount).toHaveBeenLastCalledWith(root('repo-a'), { lazy: true })
  })

  it('waits for a mount that is under way', async () => {
    const mounting = desk.ensure('repo-a', nfs)
    await desk.release('repo-a', { lazy: false })
    await mounting
    expect(await desk.state('repo-a')).toEqual({ mounted: false, reason: null })
  })

  it('is over before a mount that was asked for after it', async () => {
    const first = desk.ensure('repo-a', nfs)
    const released = desk.release('repo-a', { lazy: false })
    const second = desk.ensure('repo-a', nfs)
    await Promise.all([first, released, second])
    expect(await desk.state('repo-a')).toMatchObject({ mounted: true })
    expect(mounts.mounter.mount).toHaveBeenCalledTimes(2)
  })

  it('clears away what is left of repositories that nobody knows, and leaves the others', async () => {
    for (const id of ['repo-a', 'repo-b']) await desk.ensure(id, nfs)
    expect(await newDesk().releaseAllBut(['repo-b'])).toEqual(['repo-a'])
    expect(await readdir(join(folder, 'mounts'))).toEqual(['repo-b'])
    expect(await desk.state('repo-b')).toMatchObject({ mounted: true })
  })
})
