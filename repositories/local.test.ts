import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { describeRepository } from './conformance.ts'
import { LocalRepository } from './local.ts'
import { createRepository } from './registry.ts'

describeRepository('local', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-local-'))
  const root = join(folder, 'a repository, "quoted"\nand ünusual')
  return {
    repository: new LocalRepository('repo-test', root),
    withId: (id) => new LocalRepository(id, root),
    cleanUp: () => rm(folder, { recursive: true }),
  }
})

describe('where a local repository may lie', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-local-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  it.each([
    'relative/path',
    '',
    './x',
    '/',
    '//',
    '/etc',
    '/etc/holdfast',
    '/usr/../etc/',
    '/var',
    '/home/',
    '/dev/sda',
    '/proc/self/cwd',
  ])('refuses %j', (path) => {
    expect(() => createRepository({ id: 'repo-a', type: 'local', config: { path }, credentialsId: null })).toThrow(
      expect.objectContaining({ code: 'REPO_INVALID' }),
    )
  })

  it('refuses a configuration without a path, and types that do not exist yet', () => {
    const invalid = expect.objectContaining({ code: 'REPO_INVALID' })
    expect(() => createRepository({ id: 'repo-a', type: 'local', config: {}, credentialsId: null })).toThrow(invalid)
    expect(() => createRepository({ id: 'repo-a', type: 's3', config: { path: '/x' }, credentialsId: null })).toThrow(invalid)
  })

  it('refuses a link into the system', async () => {
    await symlink('/etc', join(folder, 'link'))
    await expect(new LocalRepository('repo-a', join(folder, 'link')).initialize()).rejects.toMatchObject({ code: 'REPO_INVALID' })
    await expect(new LocalRepository('repo-a', join(folder, 'link', 'below')).initialize()).rejects.toMatchObject({
      code: 'REPO_INVALID',
    })
  })

  it('refuses a folder with files of others, and leaves it alone', async () => {
    await writeFile(join(folder, 'holiday.jpg'), '')
    await expect(new LocalRepository('repo-a', folder).initialize()).rejects.toMatchObject({ code: 'REPO_INVALID' })
    expect(await readdir(folder)).toEqual(['holiday.jpg'])
  })

  it('refuses backups without their marker: somebody may have mounted half a repository', async () => {
    await mkdir(join(folder, 'vms', 'vm--00000000'), { recursive: true })
    await expect(new LocalRepository('repo-a', folder).initialize()).rejects.toMatchObject({ code: 'REPO_INVALID' })
  })

  it('refuses a file in the place of the folder', async () => {
    await writeFile(join(folder, 'file'), '')
    await expect(new LocalRepository('repo-a', join(folder, 'file')).initialize()).rejects.toMatchObject({ code: 'REPO_INVALID' })
    await expect(new LocalRepository('repo-a', join(folder, 'file', 'x')).initialize()).rejects.toMatchObject({
      code: 'REPO_INVALID',
    })
  })

  it('takes a fresh file system, and what a crash left of an earlier attempt', async () => {
    await mkdir(join(folder, 'lost+found'))
    await mkdir(join(folder, 'vms'))
    await writeFile(join(folder, '.holdfast-repository.json.0123456789ab'), '{"id":')
    await new LocalRepository('repo-a', folder).initialize()
    await expect(new LocalRepository('repo-b', folder).initialize()).rejects.toMatchObject({ code: 'REPO_INVALID' })
  })

  it.each(['', '{"id":', '{"id":"repo-a"}', '{"id":"repo-a","format_version":2,"created_at":"x"}'])(
    'refuses a marker that says %j',
    async (marker) => {
      await writeFile(join(folder, 'holdfast-repository.json'), marker)
      await expect(new LocalRepository('repo-a', folder).initialize()).rejects.toMatchObject({ code: 'REPO_INVALID' })
      await expect(new LocalRepository('repo-a', folder).listBackups()).rejects.toMatchObject({ code: 'REPO_INVALID' })
    },
  )

  it('says which repository is there already, and of which Holdfast', async () => {
    const file = join(folder, 'holdfast-repository.json')
    await new LocalRepository('repo-a', folder).initialize()
    await expect(new LocalRepository('repo-b', folder).initialize()).rejects.toMatchObject({
      code: 'REPO_INVALID',
      message: expect.stringMatching(/is repository "repo-a" already.*another installation/),
      details: { found_repository_id: 'repo-a' },
    })
    await writeFile(file, '{"id":"repo-a","format_version":2,"created_at":"x"}')
    await expect(new LocalRepository('repo-a', folder).initialize()).rejects.toThrow(/of a newer Holdfast/)
    await writeFile(file, '{"version":1}')
    await expect(new LocalRepository('repo-a', folder).initialize()).rejects.toThrow(/was not written by Holdfast/)
  })

  it('belongs to one of two that initialize at the same instant', async () => {
    const attempts = ['repo-a', 'repo-b', 'repo-c'].map((id) => new LocalRepository(id, folder).initialize())
    const outcomes = await Promise.allSettled(attempts)
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1)
  })
})
