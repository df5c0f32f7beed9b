/** `npm run bench` and what it starts. */
import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startProgram } from '../support/lockstep.js';
import { processesWith } from '../support/processes.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const SCRIPT = fileURLToPath(new URL('../../scripts/bench.mjs', import.meta.url));

test.skipIf(process.platform !== 'linux')(
  'bench.mjs that is stopped leaves no process and no file',
  async () => {
    const dir = await temporaryDirectory();
    const flags = ['--seconds', '0.2', '--rounds', '1'];
    const bench = startProgram(SCRIPT, flags, { TMPDIR: dir });
    await expect.poll(() => processesWith(dir), { timeout: 30_000 }).toHaveLength(1);
    bench.kill('SIGTERM');
    expect((await bench.ended).code).toBe(143);
    expect(processesWith(dir)).toEqual([]);
    expect(await readdir(dir)).toEqual([]);
  },
);
