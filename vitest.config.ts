import { defineConfig } from 'vitest/config'

const everywhere = { exclude: ['**/node_modules/**', '**/.holdfast/**', '**/.tools/**'] }

/**
 * unit: pure code, no programs. integration: real MariaDB, Temporal, qemu and nbdkit. faults: long campaigns of kills and full disks.
 * Forks, because the Temporal SDK carries a native runtime per process.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...everywhere,
          name: 'unit',
          include: ['**/*.test.ts'],
          exclude: [...everywhere.exclude, '**/*.integration.test.ts', '**/*.faults.test.ts'],
        },
      },
      {
        test: {
          ...everywhere,
          name: 'integration',
          include: ['**/*.integration.test.ts'],
          globalSetup: ['test/global-setup.ts'],
          pool: 'forks',
          // One more than the processors that CI has: tests of whole systems wait a good part of their time.
          maxWorkers: 3,
          // After the unit tests, which use all processors.
          sequence: { groupOrder: 1 },
          testTimeout: 120_000,
          hookTimeout: 120_000,
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
