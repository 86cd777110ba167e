/** Dependencies point one way. `npm run lint:layers` refuses the others. */
const test = '\\.(test|integration\\.test|faults\\.test)\\.ts$|/conformance\\.ts$|^test/'

/** Code in `from` may import, at run time, only the listed folders; `import type` is free. */
const only = (name, from, allowed) => ({
  name,
  severity: 'error',
  from: { path: `^${from}/`, pathNot: test },
  to: {
    path: '^[a-z]+/',
    pathNot: `^(${[from, ...allowed, 'node_modules'].join('|')})/`,
    dependencyTypesNot: ['type-only', 'core'],
  },
})

module.exports = {
  forbidden: [
    {
      name: 'domain-is-pure',
      comment: 'domain holds rules, not I/O',
      severity: 'error',
      from: { path: '^domain/', pathNot: test },
      to: { pathNot: '^domain/' },
    },
    only('workflows-orchestrate', 'workflows', ['domain']),
    {
      name: 'workflows-no-node',
      comment: 'workflow code is deterministic: no clock, no files, no network',
      severity: 'error',
      from: { path: '^workflows/', pathNot: test },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'workflows-only-temporal',
      comment: 'zod and friends cost heap in every workflow',
      severity: 'error',
      from: { path: '^workflows/', pathNot: test },
      to: { path: 'node_modules/', pathNot: 'node_modules/@temporalio/(workflow|common)/', dependencyTypesNot: ['type-only'] },
    },
    only('tools-wrap-programs', 'tools', ['domain']),
    only('disks-use-tools', 'disks', ['tools', 'domain']),
    only('sources-use-disks', 'sources', ['disks', 'tools', 'domain']),
    only('repositories-use-tools', 'repositories', ['tools', 'domain']),
    only('db-knows-tables', 'db', ['domain']),
    only('security-uses-db', 'security', ['db', 'domain']),
    only('activities-join-adapters', 'activities', ['domain', 'disks', 'sources', 'repositories', 'tools', 'db', 'security']),
    only('temporal-starts-workflows', 'temporal', ['workflows', 'domain']),
    only('api-asks-temporal', 'api', ['temporal', 'db', 'security', 'domain', 'runtime']),
    only('runtime-serves-every-process', 'runtime', ['domain']),
    only('worker-composes', 'worker', [
      'activities',
      'workflows',
      'temporal',
      'sources',
      'repositories',
      'disks',
      'tools',
      'db',
      'security',
      'runtime',
      'domain',
    ]),
    only('dev-starts-processes', 'dev', ['tools', 'db', 'security', 'temporal', 'runtime', 'domain', 'disks', 'test']),
    {
      name: 'api-never-touches-disks',
      severity: 'error',
      from: { path: '^api/', pathNot: test },
      to: { path: '^(disks|sources|repositories|tools|activities|worker)/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'one-spawner',
      comment: 'programs are started in one place, with a time limit and cancellation',
      severity: 'error',
      from: { pathNot: '^tools/run-tool\\.ts$' },
      to: { path: 'node_modules/execa/|^(node:)?child_process$' },
    },
    {
      name: 'not-to-test',
      comment: 'product code never imports a test',
      severity: 'error',
      from: { pathNot: `${test}|^(dev|bench)/` },
      to: { path: '\\.test\\.ts$|^test/' },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    {
      name: 'no-orphans',
      severity: 'error',
      from: {
        orphan: true,
        pathNot: `${test}|(^|/)(main|start|demo|bench|control|mover)\\.ts$|\\.config\\.ts$|\\.cjs$|-thread\\.ts$|^db/migrations/|\\.d\\.ts$`,
      },
      to: {},
    },
    {
      name: 'no-unresolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(\\.holdfast|\\.tools|node_modules/\\.cache)' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default', 'types'] },
  },
}
