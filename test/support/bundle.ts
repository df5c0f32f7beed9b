/**
 * A program of test/support as one file that plain Node runs, made by esbuild.
 */
import { build } from 'esbuild';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @returns the path of the file, in the folder */
export async function bundle(program: string, folder: string): Promise<string> {
  const outfile = join(folder, `${program}.cjs`);
  await build({
    entryPoints: [fileURLToPath(new URL(`./${program}.ts`, import.meta.url))],
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    outfile,
    logLevel: 'error',
  });
  return outfile;
}
