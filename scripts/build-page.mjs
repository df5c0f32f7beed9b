/** Bundles the monitor's page, the page /work with its thread, and `lockstep/browser`. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const source = fileURLToPath(new URL('../src/coordinator/page/browser/', import.meta.url));
const root = fileURLToPath(new URL('..', import.meta.url));

/** @param {string} outDirectory made if it is not there */
export async function buildPage(outDirectory) {
  mkdirSync(outDirectory, { recursive: true });
  await build({
    entryPoints: { page: `${source}main.ts`, compare: `${source}compare.ts` },
    outdir: outDirectory,
    bundle: true,
    minify: true,
    format: 'esm',
    target: ['es2022'],
    legalComments: 'none',
    logLevel: 'warning',
  });
  await build({
    entryPoints: [`${source}page.css`],
    outdir: outDirectory,
    bundle: true,
    minify: true,
    logLevel: 'warning',
  });
  for (const file of ['index.html', 'compare.html', 'favicon.svg']) {
    copyFileSync(`${source}${file}`, `${outDirectory}/${file}`);
  }
  await buildWorkPage(outDirectory);
}

/** What a browser is a worker with: from the sources that Node runs. */
async function buildWorkPage(outDirectory) {
  const options = {
    bundle: true,
    minify: true,
    // Fails on an import of Node's.
    platform: 'browser',
    target: ['es2022'],
    legalComments: 'none',
    logLevel: 'warning',
  };
  const folder = `${root}src/browser/`;
  await build({
    ...options,
    entryPoints: ['work.ts', 'work-thread.ts', 'work.css'].map((file) => `${folder}${file}`),
    outdir: outDirectory,
    format: 'iife',
  });
  copyFileSync(`${folder}work.html`, `${outDirectory}/work.html`);
  copyFileSync(`${root}dist/model/engine/simd/simd.wasm`, `${outDirectory}/simd.wasm`);
  await build({
    ...options,
    entryPoints: [`${root}src/library/browser.ts`],
    // Beside what tsc made of the same file, whose types it has.
    outfile: `${root}dist/library/browser.bundle.js`,
    format: 'esm',
  });
}
