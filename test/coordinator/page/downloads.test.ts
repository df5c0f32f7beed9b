import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createDownloads } from '../../../src/coordinator/page/downloads.js';
import { encodeCheckpoint, type Checkpoint } from '../../../src/model/checkpoint.js';
import { zipEntries } from '../../../src/model/data/zip.js';
import { exportModel } from '../../../src/model/export/export.js';
import { EXPORT_FORMATS } from '../../../src/model/export/format.js';
import { initParams } from '../../../src/model/init.js';
import { buildModel, DIGITS, MNIST } from '../../../src/model/lenet.js';
import { parseRunConfig } from '../../../src/shared/config.js';
import { createManualClock } from '../../support/manual-clock.js';
import { MemoryStorage } from '../../support/memory-storage.js';
import { temporaryDirectory } from '../../support/temporary-directory.js';

const config = parseRunConfig({ optimizer: 'sgd' });
const model = buildModel(config.hyperparameters, MNIST);
const checkpointAt = (globalStep: number): Checkpoint => ({
  params: initParams(model, globalStep),
  optimizerState: { tensors: {}, scalars: {} },
  globalStep,
  epoch: 1,
  seed: 1,
  hyperparameters: config.hyperparameters,
  input: MNIST.input,
  classNames: DIGITS,
  config,
  engineFingerprint: 'simd/1',
  metrics: null,
});

async function serve() {
  const dir = join(await temporaryDirectory(), 'checkpoints');
  const clock = createManualClock(0);
  const downloads = createDownloads(dir, 'my run/ü', clock);
  const server = createServer((request, response) => {
    if (!downloads.handle(request, response)) response.writeHead(418).end();
  });
  // On a busy machine the test may take long between two requests.
  server.keepAliveTimeout = 0;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const get = (path: string, method = 'GET') =>
    fetch(`http://127.0.0.1:${port}/api/${path}`, { method });
  const put = async (name: string, checkpoint: Checkpoint) => {
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, name), encodeCheckpoint(checkpoint));
  };
  return { dir, clock, get, put };
}

test('serves an archive of what lockstep export writes, for every format, of the best or the latest checkpoint', async () => {
  const { clock, get, put } = await serve();
  const none = await get('exports');
  expect(await none.json()).toEqual({ formats: EXPORT_FORMATS, checkpoints: [] });
  expect((await get('export?format=onnx')).status).toBe(404);
  await put('step-00000020.safetensors', checkpointAt(20));
  expect(await (await get('exports')).json()).toMatchObject({ checkpoints: ['latest'] });
  await put('best.safetensors', checkpointAt(10));
  for (const [query, step] of [
    ['', 10],
    ['&checkpoint=best', 10],
    ['&checkpoint=latest', 20],
  ] as const) {
    for (const format of EXPORT_FORMATS) {
      clock.advance(2000);
      const response = await get(`export?format=${format}${query}`);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toBe('application/zip');
      expect(response.headers.get('content-disposition')).toBe(
        `attachment; filename="my_run__-step-${step}-${format}.zip"`,
      );
      const storage = new MemoryStorage();
      storage.files.set('zip', new Uint8Array(await response.arrayBuffer()));
      const found: { name: string; bytes: string }[] = [];
      for (const entry of await zipEntries(await storage.open('zip'))) {
        found.push({ name: entry.name, bytes: Buffer.from(await entry.read()).toString('hex') });
      }
      const files = exportModel(checkpointAt(step), [format]);
      const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
      expect(found).toEqual(files.map(({ name, bytes }) => ({ name, bytes: hex(bytes) })));
    }
  }
});

test('refuses other requests, and too many', async () => {
  const { dir, get, put } = await serve();
  await put('best.safetensors', checkpointAt(10));
  expect((await get('export?format=exe')).status).toBe(400);
  expect((await get('export?format=onnx&checkpoint=../../secret')).status).toBe(400);
  expect((await get('export?format=onnx', 'POST')).status).toBe(405);
  expect((await get('exported')).status).toBe(418);
  const statuses: number[] = [];
  for (let i = 0; i < 8; i++) {
    const response = await get('export?format=js');
    await response.arrayBuffer();
    statuses.push(response.status);
  }
  expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(5);
  expect(statuses.at(-1)).toBe(429);
  await writeFile(join(dir, 'best.safetensors'), 'damaged');
  expect(await (await get('exports')).json()).toMatchObject({ checkpoints: ['best'] });
});
