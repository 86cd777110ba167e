import { expect, test } from 'vitest'
import { readableLines } from './readable-lines.ts'

test('log entries become lines for people, whole ones, each with its process', () => {
  const lines: string[] = []
  const receive = readableLines((line) => lines.push(line))
  receive('mover', '{"level":30,"time":"2026-11-21T06:00:00.000Z","process":"mover","msg":"ready","disk":0}\nplain ')
  receive('mariadb', 'unfinished')
  receive('mover', 'text\n\n')
  expect(lines).toEqual([expect.stringMatching(/^mover {4}\[06:00:00\] INFO: ready \{"disk":0\}$/), 'mover    plain text'])
})
