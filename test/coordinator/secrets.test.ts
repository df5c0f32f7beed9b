import { chmod, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openTlsKey, openToken, openWorkerKey } from '../../src/coordinator/secrets.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const kinds: [string, (path: string) => Promise<string>, RegExp][] = [
  ['openWorkerKey', async (path) => hexOf(await openWorkerKey(path)), /^[0-9a-f]{64}$/],
  ['openToken', openToken, /^[\w-]{22}$/],
  [
    'openTlsKey',
    async (path) => (await openTlsKey(path)).export({ type: 'pkcs8', format: 'pem' }).toString(),
    /PRIVATE KEY/,
  ],
];

describe.each(kinds)('%s()', (_name, open, looks) => {
  it('generates a secret once, readable only by its owner', async () => {
    const dir = await temporaryDirectory();
    const path = join(dir, 'secret');
    const secret = await open(path);
    expect(secret).toMatch(looks);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    await chmod(path, 0o644);
    expect(await open(path)).toBe(secret);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await open(join(dir, 'another'))).not.toBe(secret);
  });

  it('replaces a malformed one, and names a file that cannot be created', async () => {
    const path = join(await temporaryDirectory(), 'secret');
    await writeFile(path, 'half');
    expect(await open(path)).toMatch(looks);
    await expect(open(join(path, 'below'))).rejects.toThrow(/^Cannot keep the .*below: /);
  });
});
