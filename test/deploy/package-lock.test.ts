import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const file = (name: string) =>
  readFile(fileURLToPath(new URL(`../../${name}`, import.meta.url)), 'utf8');

test('package-lock.json names no registry, so that any mirror of npm will do', async () => {
  const { packages } = JSON.parse(await file('package-lock.json')) as {
    packages: Record<string, { resolved?: string }>;
  };
  const named = Object.entries(packages).filter(([, { resolved }]) => resolved !== undefined);
  expect(named).toEqual([]);
});

test('the GPU package that the users named is an optional dependency, and its install script may run', async () => {
  const { optionalDependencies, allowScripts } = JSON.parse(await file('package.json')) as Record<
    string,
    Record<string, unknown>
  >;
  expect(optionalDependencies).toHaveProperty('@tensorflow/tfjs-node-gpu', '4.22.0');
  expect(allowScripts).toHaveProperty('@tensorflow/tfjs-node-gpu', true);
});
