/** Runs test/support/simulator/main.ts, which Node cannot as it is: bundles it first, which takes a moment. */
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
// Two folders deep, like the sources, which look for dist/model/simd.wasm from where they are.
const outfile = `${root}node_modules/.cache/lockstep-simulate.mjs`;
mkdirSync(new URL('.', `file://${outfile}`), { recursive: true });
await build({
  entryPoints: [`${root}test/support/simulator/main.ts`],
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  packages: 'external',
  sourcemap: 'inline',
  outfile,
});
process.setSourceMapsEnabled(true);
await import(`file://${outfile}`);
