import { expect, test } from 'vitest'
import { embeddedDatabaseUrl, homeFolders, readEnvironment } from './environment.ts'

test('the run folder is inside a home that leaves room for socket names', () => {
  expect(homeFolders('/srv/holdfast').run).toBe('/srv/holdfast/run')
})

test('a deep home gets a short run folder, always the same one, and no other home gets it', () => {
  const deep = `/srv/${'deep/'.repeat(30)}home`
  const { run } = homeFolders(deep)
  expect(run).toMatch(/^\/(run|tmp)\/holdfast-[0-9a-f]{12}$/)
  expect(homeFolders(`${deep}/`).run).toBe(run)
  expect(homeFolders(`${deep}2`).run).not.toBe(run)
  expect(decodeURIComponent(embeddedDatabaseUrl(deep))).toContain(`socketPath=${run}/mariadb.sock`)
})

test('every run folder leaves 60 bytes for the names of sockets', () => {
  for (let depth = 0; depth < 120; depth++) {
    expect(Buffer.byteLength(homeFolders(`/${'é'.repeat(depth)}`).run) + 60).toBeLessThanOrEqual(107)
  }
})

test.each([
  ['HOLDFAST_API_PORT', 'abc'],
  ['HOLDFAST_API_PORT', '65536'],
  ['HOLDFAST_API_PORT', '0'],
  ['HOLDFAST_CHECKPOINT_MS', '-1'],
  ['HOLDFAST_TRANSFERS_PER_REPOSITORY', '1.5'],
])('%s=%s is refused by name', (name, value) => {
  expect(() => readEnvironment({ [name]: value })).toThrow(
    expect.objectContaining({ code: 'INVALID_REQUEST', message: expect.stringContaining(`${name} is "${value}"`) }),
  )
})

test('an empty number counts as not set', () => {
  expect(readEnvironment({ HOLDFAST_API_PORT: '' }).apiPort).toBe(8082)
})
