/** Bundles the monitor's page: two scripts, a style sheet, and the files that need no bundling. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const source = fileURLToPath(new URL('../src/coordinator/page/browser/', import.meta.url));

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
}
