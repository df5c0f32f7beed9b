import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openWorkerKey } from '../../src/coordinator/worker-key.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

test('openWorkerKey() draws a key once, for its owner alone to read', async () => {
  const path = join(await temporaryDirectory(), 'worker-key');
  const key = await openWorkerKey(path);
  expect(key).toHaveLength(32);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(Buffer.from(await openWorkerKey(path))).toEqual(Buffer.from(key));
});

test('openWorkerKey() replaces what is no key, and names a file that cannot be had', async () => {
  const path = join(await temporaryDirectory(), 'worker-key');
  await writeFile(path, 'half');
  expect(await openWorkerKey(path)).toHaveLength(32);
  await expect(openWorkerKey(join(path, 'below'))).rejects.toThrow(
    /^Cannot keep the key of the workers in .*below: /,
  );
});
