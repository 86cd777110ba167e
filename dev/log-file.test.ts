import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../test/temporary-folder.ts'
import { LogFile } from './log-file.ts'

test('goes on where the last run ended, readable by us only', async () => {
  const path = join(await temporaryFolder(), 'mover.log')
  for (const line of ['first\n', 'second\n']) {
    const log = new LogFile(path)
    log.write(line)
    log.close()
  }
  expect(await readFile(path, 'utf8')).toBe('first\nsecond\n')
  expect((await stat(path)).mode & 0o777).toBe(0o600)
})

test('past its limit it begins again and keeps one older file', async () => {
  const path = join(await temporaryFolder(), 'mover.log')
  const log = new LogFile(path, 10)
  for (const line of ['oldest line\n', 'older line\n', 'newest line\n', 'end\n']) log.write(line)
  log.close()
  expect(await readFile(`${path}.1`, 'utf8')).toBe('newest line\n')
  expect(await readFile(path, 'utf8')).toBe('end\n')
})

test('what a stopped program still says is dropped', async () => {
  const path = join(await temporaryFolder(), 'mover.log')
  const log = new LogFile(path)
  log.close()
  log.close()
  log.write('late')
  expect(await readFile(path, 'utf8')).toBe('')
})
