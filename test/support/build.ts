/** Builds dist/ before the tests, where it is missing or older than what it is made of: they run the built program. */
import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SOURCES = ['src', 'package.json', 'package-lock.json', 'tsconfig.json', 'scripts/build.mjs'];
/** The build makes it last. */
const LAST_BUILT = 'dist/library/browser.bundle.js';

export default function setup(): void {
  const builtAt = changedAt(join(ROOT, LAST_BUILT));
  if (SOURCES.every((path) => changedAt(join(ROOT, path)) <= builtAt)) return;
  process.stdout.write('dist/ is older than its sources: npm run build\n');
  execFileSync(process.execPath, [join(ROOT, 'scripts/build.mjs')], {
    cwd: ROOT,
    stdio: 'inherit',
  });
}

/** When a file, or anything in a folder, was last changed, ms; 0 if there is none. */
function changedAt(path: string): number {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return 0;
  if (!found.isDirectory()) return found.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => changedAt(join(path, name))));
}
