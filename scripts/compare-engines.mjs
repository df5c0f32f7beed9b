/**
 * Two or more builds of the `simd` engine in turn, on the same machine at the same time: the ratios of
 * docs/experiments.md.
 *
 *   node scripts/compare-engines.mjs dist /some/other/checkout/dist
 *
 * Prints images/s of the gradient of 16 images from the shortest duration, the fifth of the way up and the median, and whether
 * the bits are equal.
 */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const NUM_IMAGES = 16;
const ROUNDS = 60;
const CALLS = 60;

const load = (dist, file) => import(pathToFileURL(resolve(dist, 'model', file)).href);

const builds = await Promise.all(
  process.argv.slice(2).map(async (dist) => {
    const { buildModel, LENET5 } = await load(dist, 'lenet.js');
    const { createSimdEngine } = await load(dist, 'engine/simd/node.js');
    const model = buildModel(LENET5);
    const engine = createSimdEngine(model);
    engine.setParams(
      Float32Array.from({ length: model.numParams }, (_, i) => ((i * 89) % 101) / 700 - 0.07),
    );
    return { dist, engine, out: engine.allocateGradient(), durations: [] };
  }),
);
const images = Uint8Array.from({ length: NUM_IMAGES * 784 }, (_, i) => (i * 97 + (i >> 5)) & 255);
const labels = Uint16Array.from({ length: NUM_IMAGES }, (_, i) => i % 10);

for (let round = 0; round < ROUNDS; round++) {
  for (const { engine, out, durations } of builds) {
    for (let call = 0; call < CALLS; call++) {
      const start = performance.now();
      engine.gradient(images, labels, out);
      // The first rounds compile, the first calls of a round fill the caches.
      if (round > 5 && call > 3) durations.push(performance.now() - start);
    }
  }
}
for (const { dist, out, durations } of builds) {
  durations.sort((a, b) => a - b);
  const at = (share) =>
    ((1000 * NUM_IMAGES) / durations[Math.floor(durations.length * share)]).toFixed(0);
  const bits = createHash('sha256').update(out).digest('hex').slice(0, 12);
  console.log(`${dist}: ${at(0)} images/s at best, ${at(0.2)}, median ${at(0.5)}; bits ${bits}`);
}
