import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { LongestFirst } from './test/longest-first.ts'

/** As the embedded stack does: tests start hundreds of processes and disk threads, and compiling their sources took half of the processor time. */
process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, '.tools', 'compiled')

const everywhere = { exclude: ['**/node_modules/**', '**/.holdfast/**', '**/.tools/**'] }

/**
 * unit, unit-mocks: pure code, no programs. integration: real MariaDB, Temporal, qemu and nbdkit. faults: long campaigns of kills.
 * Forks, because the Temporal SDK carries a native runtime per process.
 */
export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          ...everywhere,
          name: 'unit',
          include: ['**/*.test.ts'],
          exclude: [...everywhere.exclude, '**/*.integration.test.ts', '**/*.faults.test.ts', '**/*.mocks.test.ts'],
          // Pure code keeps nothing between files; to import it anew for each took more than half of the processor time.
          isolate: false,
        },
      },
      {
        // Files that replace modules, which must be their own.
        test: { ...everywhere, name: 'unit-mocks', include: ['**/*.mocks.test.ts'] },
      },
      {
        test: {
          ...everywhere,
          name: 'integration',
          include: ['**/*.integration.test.ts'],
          globalSetup: ['test/global-setup.ts'],
          pool: 'forks',
          // Twice the processors that CI has: beside two others, tests of whole systems keep one busy for about 0.6 of their time.
          maxWorkers: 4,
          // After the unit tests, which use all processors.
          sequence: { groupOrder: 1 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
          // CI's machine also does other things. A test that needed its second try is named in the report, and is to be mended.
          retry: process.env['CI'] === undefined ? 0 : 1,
          // What comes, comes at once; what does not is worth a wait on a machine that does three things at a time.
          expect: { poll: { timeout: 60_000 } },
        },
      },
      {
        test: {
          ...everywhere,
          name: 'faults',
          include: ['**/*.faults.test.ts'],
          globalSetup: ['test/global-setup.ts'],
          pool: 'forks',
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
          testTimeout: 900_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
})
