/** Another checkout beside this one: the same build and the same packages, but for one that the test writes. */
import { cp, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from './temporary-directory.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/**
 * A folder, gone with the test, in which the package `name` (`@scope/name`) consists of `code`.
 *
 * @returns its path
 */
export async function checkoutWith(name: string, code: string): Promise<string> {
  const checkout = await temporaryDirectory();
  const packages = join(checkout, 'node_modules');
  const scope = dirname(name);
  await mkdir(join(packages, name), { recursive: true });
  await writeFile(join(packages, name, 'index.js'), code);
  await writeFile(join(packages, name, 'package.json'), JSON.stringify({ name }));
  await cp(join(ROOT, 'dist'), join(checkout, 'dist'), { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) {
    await cp(join(ROOT, file), join(checkout, file));
  }
  await linkAll(join(ROOT, 'node_modules'), packages, scope);
  await linkAll(join(ROOT, 'node_modules', scope), join(packages, scope), basename(name));
  return checkout;
}

async function linkAll(from: string, to: string, except: string): Promise<void> {
  for (const entry of await readdir(from)) {
    if (entry !== except) await symlink(join(from, entry), join(to, entry));
  }
}
