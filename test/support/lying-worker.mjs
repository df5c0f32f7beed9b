/**
 * A worker that is exact by its proof and flips the last bit of one weight's gradient ever after, as a machine with a
 * bad memory cell might. Over the built files: node lying-worker.mjs URL
 */
import { createSimdEngine } from '../../dist/model/engine/simd/node.js';
import { proveEngine } from '../../dist/model/engine/proof.js';
import { systemClock } from '../../dist/shared/clock.js';
import { createRandom } from '../../dist/shared/random.js';
import { dial } from '../../dist/worker/connection.js';
import { EngineComputation } from '../../dist/worker/engine-computation.js';
import { Worker } from '../../dist/worker/worker.js';

let isProven = false;

function createLyingEngine(model) {
  const engine = createSimdEngine(model);
  const honest = engine.gradient.bind(engine);
  engine.gradient = (images, labels, out, training) => {
    const loss = honest(images, labels, out, training);
    if (isProven) new Uint32Array(out.buffer, out.byteOffset, 1)[0] ^= 1;
    return loss;
  };
  return engine;
}

const worker = new Worker({
  dial: (signal) => dial(process.argv[2], null, signal),
  session: {
    createComputation: async (model, regularizer) =>
      new EngineComputation(createLyingEngine(model), {
        clock: systemClock,
        regularizer,
        prove: async (engine, proofSeed) => {
          const proof = await proveEngine(engine, proofSeed, regularizer);
          isProven = true;
          return proof;
        },
      }),
    engineName: 'simd',
    name: 'liar',
    host: 'test',
    token: null,
    maxMemoryBytes: 1e9,
    clock: systemClock,
    collectGarbage: () => undefined,
    log: (_, message) => console.log(message),
  },
  random: createRandom(1, 'liar'),
  retryForMs: Infinity,
});
console.log(JSON.stringify(await worker.work(new AbortController().signal)));
