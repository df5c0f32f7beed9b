import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { joinLine, openAccess } from '../../src/cli/access.js';
import { selfSignedCertificate } from '../../src/coordinator/certificate.js';
import { temporaryDirectory } from '../support/temporary-directory.js';

async function accessWith(names: readonly string[]) {
  const folder = await temporaryDirectory();
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [tlsCert, tlsKey] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  await writeFile(tlsCert, selfSignedCertificate(privateKey, names, randomBytes(8), Date.now()));
  await writeFile(tlsKey, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  return openAccess(
    folder,
    {
      ...{ host: '10.0.0.5', insecure: false, tlsCert, tlsKey, browserWorkers: false },
      ...{ token: null, lookToken: null },
    },
    () => undefined,
  );
}

it('names the machines of a certificate, and needs no pin for them', async () => {
  const access = await accessWith(['anna.example.org', '*.example.org']);
  expect(access.hosts).toEqual(['anna.example.org']);
  expect(joinLine(access, access.hosts[0], 7700, null)).toBe('wss://anna.example.org:7700');
});

it('pins the key of a certificate that names no machine', async () => {
  const access = await accessWith(['*.example.org']);
  expect(access.hosts).toEqual(['10.0.0.5']);
  const line = joinLine(access, access.hosts[0], 7700, null);
  expect(line).toBe(`wss://10.0.0.5:7700#.${access.tls!.pin}`);
});

it('verifies a certificate that names the machine by its address', async () => {
  const access = await accessWith(['10.0.0.5', '*.example.org']);
  expect(joinLine(access, access.hosts[0], 7700, null)).toBe('wss://10.0.0.5:7700');
});
