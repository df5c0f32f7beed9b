import { spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { programAt } from '../../src/cli/remote-workers.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

it.each(['plain', 'my work', "anna's", '$HOME `x`'])(
  'runs what is in a folder called %s',
  async (name) => {
    const folder = join(await temporaryDirectory(), name);
    await mkdir(folder);
    const file = join(folder, 'main.mjs');
    await writeFile(file, 'console.log(process.argv[2]);');
    const { stdout } = spawnSync('sh', ['-c', `${programAt(file)} here`], { encoding: 'utf8' });
    expect(stdout).toBe('here\n');
  },
);
