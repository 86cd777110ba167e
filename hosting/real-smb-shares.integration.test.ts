import { expect, it } from 'vitest'
import { requireTool } from '../test/requires.ts'
import { testShares } from '../test/shares-in-uml.ts'

for (const program of ['linux.uml', 'smbd', 'mount.cifs', 'qemu-nbd']) requireTool(program)

/** With the conformance suite. */
const TESTS_MIN = 45

it('repositories on SMB shares do what they must, with a real server and the kernel’s own client', async () => {
  const { tests, printed } = await testShares('smb')
  expect(tests.filter(({ failure }) => failure !== null)).toEqual([])
  expect(tests.length).toBeGreaterThan(TESTS_MIN)
  expect(printed).not.toContain('canary')
}, 320_000)
