/**
 * Runs a TypeScript program of test/support, which Node cannot as it is: bundles it first, which takes a moment.
 *
 *   node scripts/run-typescript.mjs test/support/simulator/main.ts [arguments of the program]
 */
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const [entry] = process.argv.splice(2, 1);
// Two folders deep, like the sources, which look for dist/model/simd.wasm from where they are.
const outfile = `${root}node_modules/.cache/lockstep-${entry.replaceAll('/', '-')}.mjs`;
mkdirSync(new URL('.', `file://${outfile}`), { recursive: true });
await build({
  entryPoints: [`${root}${entry}`],
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
