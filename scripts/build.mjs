/** Builds dist/: the TypeScript, then what only the build makes. Plain JavaScript, as `npm ci` runs it first of all. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildPage } from './build-page.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = (script, ...args) =>
  execFileSync(process.execPath, [`${root}node_modules/${script}`, ...args], {
    cwd: root,
    stdio: 'inherit',
  });

rmSync(`${root}dist`, { recursive: true, force: true });
run('typescript/bin/tsc', '-p', 'tsconfig.json');
// npm makes a package's programs executable where it installs it; in a checkout, `npx lockstep` runs this very file.
chmodSync(`${root}dist/cli/main.js`, 0o755);

// The kernels of the `simd` engine. The host owns the memory; nothing is collected, nothing asserted.
mkdirSync(`${root}dist/model/engine/simd`, { recursive: true });
const assembly = (outFile, ...flags) =>
  run(
    'assemblyscript/bin/asc.js',
    'src/model/engine/simd/assembly/index.ts',
    ...['--outFile', `dist/model/engine/simd/${outFile}`],
    ...['--runtime', 'stub', '--importMemory', '--noExportMemory', '--initialMemory', '1'],
    ...['--enable', 'simd', '--noAssert', '-O3'],
    ...flags,
  );
assembly('simd.wasm');
// The same kernels over a memory that threads share.
assembly('simd-shared.wasm', '--enable', 'threads', '--sharedMemory', '--maximumMemory', '65536');

await buildPage(`${root}dist/coordinator/page/browser`);
