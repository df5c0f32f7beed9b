/**
 * `npm run scale`: how efficient large runs are, as stars and as trees of relays, by simulation with costs measured here
 * (docs/scaling.md).
 *
 *   npm run scale -- [--batch 64000] [--gigabits 1] [--latency 0.1] [--workers 8,64,256,1000]
 */
import { parseArgs } from 'node:util';
import { cpus } from 'node:os';
import { formatBytes } from '../../../src/shared/format.js';
import { runCluster, type ClusterResult, type Network, type Shape } from './cluster.js';
import { measureCosts, type Costs } from './costs.js';

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '64000' },
    gigabits: { type: 'string', default: '1' },
    latency: { type: 'string', default: '0.1' },
    workers: { type: 'string', default: '8,64,256,1000' },
  },
});
const batchSize = Number(values.batch);
const network: Network = {
  gigabits: Number(values.gigabits),
  latencyMs: Number(values.latency),
};

const costs = await measureCosts();
sayCosts(costs);
console.log(
  `\nBatch ${batchSize}, links of ${network.gigabits} Gbit/s with ${network.latencyMs} ms of latency\n`,
);
const head = ['workers', 'shape', 'ms a step', 'images/s', 'efficient', 'coordinator', 'sent'];
row(head);
const counts = values.workers.split(',').map(Number);
const most = Math.max(...counts);
let best: { readonly relays: readonly number[]; readonly stepMs: number } = {
  relays: [],
  stepMs: Infinity,
};
for (const numWorkers of counts) {
  for (const relays of shapesOf(numWorkers)) {
    const result = await runCluster({ numWorkers, batchSize, relays }, network, costs);
    sayResult(numWorkers, relays, result);
    if (numWorkers === most && result.stepMs < best.stepMs) best = { relays, ...result };
  }
}

const shape: Shape = { numWorkers: most, batchSize, relays: best.relays };
console.log(`\n${most} workers behind ${best.relays.join(' × ')} relays, with one thing changed\n`);
row(head);
const changes: readonly (readonly [string, Partial<Shape & Network>])[] = [
  ...[2, 4, 8].map((numSlices) => [`in ${numSlices} slices`, { numSlices }] as const),
  ['10 Gbit/s', { gigabits: 10 * network.gigabits }],
  ['100 Gbit/s', { gigabits: 100 * network.gigabits }],
];
for (const [what, change] of changes) {
  const changed = await runCluster({ ...shape, ...change }, { ...network, ...change }, costs);
  sayResult(most, what, changed);
}

/** The star, and trees whose hubs have about as many below them. */
function shapesOf(numWorkers: number): readonly (readonly number[])[] {
  const two = Math.round(Math.sqrt(numWorkers));
  const three = Math.round(Math.cbrt(numWorkers));
  const four = Math.round(numWorkers ** 0.25);
  return [
    [],
    ...(two > 3 ? [[two]] : [[2]]),
    ...(three > 3 ? [[three, three]] : []),
    ...(four > 3 ? [[four, four, four]] : []),
  ];
}

function sayCosts(of: Costs): void {
  const us = (ms: number) => `${(1000 * ms).toFixed(0)} µs`;
  const megabyteMs = 1e6 * of.msPerByte;
  console.log(`Measured on ${cpus()[0].model}, Node ${process.version}, one core`);
  console.log(`  engine, micro-batches of 16     ${of.imagesPerSecond.toFixed(0)} images/s`);
  console.log(`  frame of a gradient from values ${us(of.encodeMs)}`);
  console.log(`  checked values from the frame   ${us(of.decodeMs)}`);
  console.log(`  sum of two gradients            ${us(of.addMs)}`);
  console.log(`  update of θ                     ${us(of.updateMs)}`);
  console.log(`  WebSocket, each side            ${us(of.frameMs)} and ${us(megabyteMs)} a MB`);
}

function sayResult(
  numWorkers: number,
  shape: readonly number[] | string,
  { stepMs, efficiency, coordinatorMs, bytes }: ClusterResult,
): void {
  row([
    String(numWorkers),
    typeof shape === 'string' ? shape : shape.length === 0 ? 'star' : `${shape.join(' × ')} relays`,
    stepMs.toFixed(1),
    ((1000 * batchSize) / stepMs).toFixed(0),
    `${(100 * efficiency).toFixed(1)} %`,
    `${coordinatorMs.toFixed(1)} ms`,
    formatBytes(bytes),
  ]);
}

function row(cells: readonly string[]): void {
  const widths = [7, 24, 10, 10, 10, 12, 9];
  console.log(
    cells.map((cell, i) => (i === 1 ? cell.padEnd(24) : cell.padStart(widths[i]))).join(' '),
  );
}
