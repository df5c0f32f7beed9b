/** What is installed with Lockstep is listed in docs/security.md, with the reason, package by package. */
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
// @ts-expect-error Plain JavaScript, as CI may run it before anything is built.
import { productionDependencies } from '../scripts/dependencies.mjs';

interface Dependency {
  readonly name: string;
  readonly isOptional: boolean;
  readonly brings: readonly string[];
}

/** `- \`ws\` (optional): why. Needs \`a\`, \`b\`.`, over as many lines as it takes. */
const ITEM = /^- `([^`]+)`( \(optional\))?: [^.]+\. Needs ([^.]+(?:\.[a-z][^.]*)*)\.$/;

test('every production dependency is listed in docs/security.md, with what it needs', async () => {
  const text = await readFile(new URL('../docs/security.md', import.meta.url), 'utf8');
  const [, section] = text.split('## What is installed with it');
  const listed = section
    .split('\n## ')[0]
    .split(/\n(?=- )/)
    .slice(1)
    .map((item): Dependency => {
      const match = ITEM.exec(item.trim().replace(/\s+/g, ' '));
      if (match === null) throw new Error(`Not in the form of the others: ${item}`);
      const [, name, optional, needs] = match as (string | undefined)[];
      const brings = [...needs!.matchAll(/`([^`]+)`/g)].map(([, one]) => one);
      return { name: name!, isOptional: optional !== undefined, brings };
    });
  const found = (productionDependencies as () => Dependency[])();
  expect(listed).toEqual(found);
  const count = (some: readonly Dependency[]) =>
    new Set(some.flatMap(({ name, brings }) => [name, ...brings])).size;
  const needed = found.filter(({ isOptional }) => !isOptional);
  expect(section).toContain(
    `${needed.length} packages and what they need in turn: ${count(needed)} packages, ${count(found)} with the optional ones`,
  );
});
