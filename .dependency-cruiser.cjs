/**
 * Which room may know which (CONTRIBUTING.md): cli → coordinator, worker → model → shared. Worker and coordinator meet in
 * `shared` only; what a browser runs knows no Node.
 */

/** Rooms that run anywhere, a browser included; what they need of Node is handed to them. */
const PORTABLE = [
  '^src/shared/[^/]+\\.ts$',
  '^src/worker/(?!connection\\.ts)[^/]+\\.ts$',
  '^src/library/browser\\.ts$',
  '^src/browser/',
  '^src/model/[^/]+\\.ts$',
  '^src/model/data/(augment|input-image)\\.ts$',
  '^src/model/engine/[^/]+\\.ts$',
  '^src/model/engine/simd/[^/]+\\.ts$',
  '^src/model/engine/simd/stages/',
];
/** Files in those rooms that are Node's all the same: loaders and what only the coordinator or a command calls. */
const OF_NODE = [
  '^src/model/(checkpoint|initial-params|safetensors)\\.ts$',
  '^src/model/engine/(doctor|engines)\\.ts$',
  '^src/model/engine/simd/node\\.ts$',
];

const rule = (name, comment, from, to) => ({ name, comment, severity: 'error', from, to });

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    rule('no-circle', 'Modules that need each other are one module', {}, { circular: true }),
    rule('shared-knows-nothing-of-ours', '', { path: '^src/shared' }, { path: '^src/(?!shared)' }),
    rule('model-knows-shared-alone', '', { path: '^src/model' }, { path: '^src/(?!model|shared)' }),
    rule(
      'worker-knows-no-coordinator',
      'They meet in src/shared',
      { path: '^src/worker' },
      { path: '^src/(coordinator|relay|cli)' },
    ),
    rule(
      'coordinator-knows-no-worker',
      'They meet in src/shared',
      { path: '^src/coordinator' },
      { path: '^src/(worker|relay|cli)' },
    ),
    rule(
      'what-trains-knows-no-watcher',
      'The coordinator, its rounds and its group tell of themselves by events alone',
      { path: ['^src/coordinator/[^/]+\\.ts$', '^src/coordinator/(round|group)/'] },
      { path: '^src/coordinator/(observers|page|run)' },
    ),
    rule(
      'run-knows-no-room',
      "A run's folder is read without the rooms that fill it",
      { path: '^src/coordinator/run' },
      { path: '^src/coordinator/(round|group|observers|page)' },
    ),
    rule(
      'observers-know-no-page',
      '',
      { path: '^src/coordinator/observers' },
      { path: '^src/coordinator/(round|group|page)' },
    ),
    rule('relay-knows-no-cli', '', { path: '^src/relay' }, { path: '^src/cli' }),
    rule(
      'portable-knows-no-node',
      'What runs in a browser is handed what it needs of Node',
      { path: PORTABLE, pathNot: OF_NODE },
      { dependencyTypes: ['core'] },
    ),
    rule(
      'portable-knows-no-node-room',
      '',
      { path: PORTABLE, pathNot: OF_NODE },
      { path: ['^src/shared/node', '^src/model/engine/tfjs'], dependencyTypesNot: ['type-only'] },
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^src/model/engine/simd/assembly' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: 'specify',
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.json'] },
  },
};
