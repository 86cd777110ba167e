import { describe, expect, test, vi } from 'vitest'
import { requireTool } from './requires.ts'

describe('a program that is there', () => {
  requireTool('sh')
  test('runs the tests', ({ task }) => expect(task.mode).toBe('run'))
})

test('a missing program fails in CI', () => {
  vi.stubEnv('CI', 'true')
  try {
    expect(() => requireTool('no-such-program')).toThrow('needs "no-such-program"')
  } finally {
    vi.unstubAllEnvs()
  }
})
