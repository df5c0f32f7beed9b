/**
 * Prints the figures of docs/experiments.md, "The SIMD engine": images/s by size of call, time of each layer, vector
 * operations, start-up and memory; with a peer's command, both in turn on the same machine.
 *
 *   npm run build && node scripts/bench-engine.mjs [--rounds 5] [--peer "python ddp_lenet.py --single"]
 */
import { execSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { benchEngine } from '../dist/model/engine/bench.js';
import { initParams } from '../dist/model/init.js';
import { buildModel, LENET5 } from '../dist/model/lenet.js';
import { createOptimizer } from '../dist/model/optimizer.js';
import { createSimdEngine } from '../dist/model/engine/simd/node.js';
import { createVectorOps } from '../dist/model/engine/simd/node.js';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, peer: { type: 'string' } },
});
const rounds = Number(values.rounds);

const startMs = performance.now();
const model = buildModel(LENET5);
const engine = createSimdEngine(model);
const startUpMs = performance.now() - startMs;
const params = initParams(model, 1);

const round = (value, digits = 0) => value.toFixed(digits);

for (let i = 1; i <= rounds; i++) {
  const { sizes, layers, setParamsMs } = await benchEngine(engine, params, {
    timing: { msPerFigure: 500 },
    ...(i < rounds && { sizes: [16] }),
  });
  for (const { numImages, gradient, evaluation } of sizes) {
    console.log(
      `round ${i}: ${numImages} images a call: gradient ${round(gradient.best)} images/s (median ` +
        `${round(gradient.median)}), evaluation ${round(evaluation.best)} (median ${round(evaluation.median)})`,
    );
  }
  if (values.peer !== undefined) {
    const lines = execSync(values.peer, { encoding: 'utf8' }).trim().split('\n');
    for (const line of lines) console.log(`round ${i}: peer: ${line}`);
  }
  if (i < rounds) continue;
  for (const { layer, forwardMs, backwardMs } of layers) {
    console.log(
      `${layer}: forward ${round((forwardMs * 1000) / 16, 2)} µs an image, backward ${round((backwardMs * 1000) / 16, 2)}`,
    );
  }
  console.log(`setParams ${round(setParamsMs * 1000)} µs`);
}

const best = (work) => {
  let shortest = Infinity;
  for (let i = 0; i < 3000; i++) {
    const start = performance.now();
    work();
    shortest = Math.min(shortest, performance.now() - start);
  }
  return `${round(shortest * 1000, 1)} µs`;
};
const ops = createVectorOps(model.numParams);
const own = () => {
  const vector = ops.allocate();
  vector.set(params);
  return vector;
};
const [sum, term] = [own(), own()];
const foreign = params.slice();
console.log(
  `add: ${best(() => ops.add(sum, term))}, of an ordinary array ${best(() => ops.add(sum, foreign))}`,
);
const plainSum = params.slice();
const plainAdd = () => {
  for (let i = 0; i < plainSum.length; i++) plainSum[i] += foreign[i];
};
console.log(`add in JavaScript: ${best(plainAdd)}`);
for (const name of ['sgd', 'momentum', 'adam']) {
  const config = {
    name,
    momentum: 0.9,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0.01,
  };
  const fast = createOptimizer(config, ops);
  const state = fast.init(model.numParams);
  const placed = {
    ...state,
    tensors: Object.fromEntries(Object.keys(state.tensors).map((key) => [key, ops.allocate()])),
  };
  const [theta, g] = [own(), own()];
  const plain = createOptimizer(config);
  const plainState = plain.init(model.numParams);
  const plainTheta = params.slice();
  console.log(
    `${name}: ${best(() => fast.update(theta, placed, g, 1e-3))}, ` +
      `in JavaScript ${best(() => plain.update(plainTheta, plainState, foreign, 1e-3))}`,
  );
}
console.log(
  `start-up ${round(startUpMs)} ms, resident ${round(process.memoryUsage.rss() / 2 ** 20)} MB`,
);
