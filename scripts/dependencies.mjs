/**
 * What Lockstep brings with it when it is installed: each package of `dependencies` and `optionalDependencies`, and what
 * that needs in turn, by package-lock.json. docs/security.md lists them, and a test compares: node scripts/dependencies.mjs
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { helpIfAsked } from './usage.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** @returns {{ name: string, isOptional: boolean, brings: string[] }[]} in the order of their names */
export function productionDependencies() {
  const { packages } = JSON.parse(readFileSync(`${ROOT}package-lock.json`, 'utf8'));
  const { dependencies, optionalDependencies } = packages[''];
  return Object.keys({ ...dependencies, ...optionalDependencies })
    .sort()
    .map((name) => {
      const found = new Set();
      collect(packages, find(packages, '', name), found);
      const names = new Set([...found].map(nameOf));
      names.delete(name);
      const isOptional = Object.hasOwn(optionalDependencies, name);
      return { name, isOptional, brings: [...names].sort() };
    });
}

function collect(packages, path, found) {
  if (path === null || found.has(path)) return;
  found.add(path);
  const { dependencies, optionalDependencies } = packages[path];
  for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
    collect(packages, find(packages, path, name), found);
  }
}

/** Where Node finds the package from there, null where it is not installed at all. */
function find(packages, from, name) {
  for (
    let path = from;
    ;
    path = path.slice(0, Math.max(0, path.lastIndexOf('node_modules/') - 1))
  ) {
    const candidate = `${path === '' ? '' : `${path}/`}node_modules/${name}`;
    if (Object.hasOwn(packages, candidate)) return candidate;
    if (path === '') return null;
  }
}

function nameOf(path) {
  return path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  helpIfAsked(import.meta.url);
  const all = productionDependencies();
  const count = (some) => new Set(some.flatMap(({ name, brings }) => [name, ...brings])).size;
  for (const { name, isOptional, brings } of all) {
    console.log(
      `${name}${isOptional ? ' (optional)' : ''}: ${brings.join(', ') || 'nothing else'}`,
    );
  }
  const needed = all.filter(({ isOptional }) => !isOptional);
  console.log(`${count(all)} packages, ${count(needed)} of them without the optional ones`);
}
