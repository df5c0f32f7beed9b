/**
 * Runs a TypeScript program of test/support, which Node 20 cannot as it is: each source is stripped of its types as it
 * is loaded, from where it lies.
 *
 *   node scripts/run-typescript.mjs test/support/simulator/main.ts [arguments of the program]
 */
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { transform } from 'esbuild';
import { helpIfAsked } from './usage.mjs';

// Node runs the two hooks on a thread of their own, which loads this file once more.
if (isMainThread) {
  // What follows is the program's.
  helpIfAsked(import.meta.url, process.argv.slice(2, 3));
  register(import.meta.url);
  const [entry] = process.argv.splice(2, 1);
  process.setSourceMapsEnabled(true);
  await import(pathToFileURL(entry).href);
}

/** Sources name each other by what they are compiled to. */
export async function resolve(specifier, context, next) {
  if (!specifier.startsWith('.') || !context.parentURL?.endsWith('.ts')) {
    return next(specifier, context);
  }
  return next(specifier.replace(/\.js$/, '.ts'), context);
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context);
  const path = fileURLToPath(url);
  const { code } = await transform(await readFile(path, 'utf8'), {
    loader: 'ts',
    format: 'esm',
    target: 'node20',
    sourcefile: path,
    sourcemap: 'inline',
  });
  return { format: 'module', source: code, shortCircuit: true };
}
