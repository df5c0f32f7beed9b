/** What a browser is to run of a worker runs in one, from one source and with the bits that Node has. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { initParams } from '../../src/model/init.js';
import { LENET5, buildModel } from '../../src/model/lenet.js';
import { joinFrame } from '../../src/shared/channel.js';
import { bytesOf, decodeWorkerMessage, encode } from '../../src/shared/codec.js';
import type { Message } from '../../src/shared/protocol.js';
import { createRandom } from '../../src/shared/random.js';
import { answer } from '../support/browser-worker.js';
import { hasBrowser, launchBrowser } from '../support/browser.js';

declare const WebAssembly: { Module: new (bytes: Uint8Array) => object };

const MODEL = buildModel(LENET5);
const NUM_IMAGES = 27;
const IMAGE_BYTES = 784;
/** The worker's hello, ready, and the partials of two nodes. */
const NUM_ANSWERS = 4;

/** A coordinator's part of a short connection: what it sends after the worker's first and second frame. */
function replies(): Uint8Array[][] {
  const random = createRandom(3, 'portable');
  const indices = Uint32Array.from({ length: NUM_IMAGES }, (_, i) => i);
  const welcome: Message<'welcome'> = {
    type: 'welcome',
    workerId: 'w1',
    secret: '0a'.repeat(32),
    runId: 'portable',
    hyperparameters: structuredClone(LENET5) as Message<'welcome'>['hyperparameters'],
    input: MODEL.input,
    numClasses: MODEL.numClasses,
    // All of it is as portable as the engine.
    regularization: {
      seed: 4,
      augment: ['shift', 'rotate', 'scale', 'flip', 'noise', 'cutout'],
      dropout: 0.3,
      labelSmoothing: 0.1,
    },
    microBatch: 8,
    evaluationBlock: 10,
    numParams: MODEL.numParams,
    sliceValues: 1e9,
    datasetId: 'made up',
    numSamples: NUM_IMAGES,
    proofSeed: 11,
    heartbeatTimeoutMs: 60_000,
    alternates: [],
  };
  const samples: Message<'samples'> = {
    type: 'samples',
    indices: bytesOf(indices),
    labels: bytesOf(Uint16Array.from({ length: NUM_IMAGES }, () => random.below(10))),
    pixels: Uint8Array.from({ length: NUM_IMAGES * IMAGE_BYTES }, () => random.below(256)),
  };
  const step: Message<'step'> = {
    type: 'step',
    globalStep: 0,
    epoch: 2,
    params: bytesOf(initParams(MODEL, 5)),
    // Four micro-batches, the last one short; three of them are two nodes of the tree.
    numImages: NUM_IMAGES,
    ranges: [[1, 4]],
    indices: bytesOf(indices.subarray(8)),
  };
  return [[welcome], [samples, step]].map((messages) => messages.map((m) => joinFrame(encode(m))));
}

/** What the frames say, but for when. */
function contentOf(frames: readonly Uint8Array[]) {
  return frames.map((frame) => {
    const message = decodeWorkerMessage([Buffer.from(frame)]);
    return message.type === 'partial'
      ? { ...message, startedAt: 0, computeMs: 0, gradient: hex(message.gradient) }
      : message.type === 'ready'
        ? { ...message, proof: hex(message.proof) }
        : message;
  });
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('a worker in a browser', () => {
  it.skipIf(!hasBrowser())('proves itself and sums gradients with the bits of Node', async () => {
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL('../support/browser-worker.ts', import.meta.url))],
      bundle: true,
      write: false,
      // Fails on an import of Node's.
      platform: 'browser',
      format: 'iife',
      globalName: 'lockstep',
      target: 'es2023',
      logLevel: 'silent',
    });
    const wasm = await readFile(new URL('../../dist/model/engine/simd/simd.wasm', import.meta.url));
    const inNode = contentOf(await answer(new WebAssembly.Module(wasm), replies(), NUM_ANSWERS));
    expect(inNode.map(({ type }) => type)).toEqual(['hello', 'ready', 'partial', 'partial']);

    const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
    const browser = await launchBrowser();
    try {
      const page = await browser.newPage();
      await page.addScriptTag({ content: outputFiles[0].text });
      // As a text, because the tests know no DOM.
      const said = await page.evaluate<string[]>(`(async () => {
        const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const textOf = (bytes) => Array.from(bytes, (b) => String.fromCharCode(b)).join('');
        const module = new WebAssembly.Module(bytesOf(${JSON.stringify(base64(wasm))}));
        const replies = ${JSON.stringify(replies().map((frames) => frames.map(base64)))};
        const said = await lockstep.answer(
          module, replies.map((frames) => frames.map(bytesOf)), ${NUM_ANSWERS});
        return said.map((frame) => btoa(textOf(frame)));
      })()`);
      const inBrowser = contentOf(said.map((text) => Buffer.from(text, 'base64')));
      expect(inBrowser).toEqual(inNode);
    } finally {
      await browser.close();
    }
  });
});
