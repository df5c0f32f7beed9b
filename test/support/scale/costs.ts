/**
 * What the parts of a step cost on this machine, measured: the engine, frames, sums, sockets, plans.
 *
 * Of what one process does alone the shortest of many repetitions counts, as others may use the machine too; of sockets
 * the processor time, user and system.
 */
import { once } from 'node:events';
import { defaultServerLimits, listen } from '../../../src/coordinator/server.js';
import { planShares } from '../../../src/coordinator/round/planner.js';
import { benchEngine } from '../../../src/model/engine/bench.js';
import { createSimdEngine, createVectorOps } from '../../../src/model/engine/simd/node.js';
import { initParams } from '../../../src/model/init.js';
import { LENET5, buildModel } from '../../../src/model/lenet.js';
import { createOptimizer } from '../../../src/model/optimizer.js';
import { frameBytes, type Channel, type Frame } from '../../../src/shared/channel.js';
import { systemClock } from '../../../src/shared/clock.js';
import {
  bytesOf,
  copyFloat32,
  decodeCoordinatorMessage,
  decodeWorkerMessage,
  encode,
} from '../../../src/shared/codec.js';
import { parseRunConfig } from '../../../src/shared/config.js';
import type { Message } from '../../../src/shared/protocol.js';
import { NO_LIMITS } from '../../../src/shared/node/socket-channel.js';
import { dial } from '../../../src/worker/connection.js';

/** All in ms of one core, but for the first. */
export interface Costs {
  /** Gradients of images a second and core, in calls of a micro-batch. */
  readonly imagesPerSecond: number;
  /** Frame of a gradient (P,) from its values, and values that have been checked from the frame. */
  readonly encodeMs: number;
  readonly decodeMs: number;
  /** sum ← sum + term of (P,) */
  readonly addMs: number;
  /** One update of θ by Adam. */
  readonly updateMs: number;
  /** For a frame through a WebSocket over loopback, on either side. */
  readonly frameMs: number;
  readonly msPerByte: number;
}

/** Images of one. */
export const MICRO_BATCH = 16;

export async function measureCosts(): Promise<Costs> {
  const model = buildModel(LENET5);
  const { numParams } = model;
  const params = initParams(model, 1);
  const engine = createSimdEngine(model);
  const { sizes } = await benchEngine(engine, params, {
    sizes: [MICRO_BATCH],
    timing: { msPerFigure: 1500 },
  });
  const vectors = createVectorOps(numParams);
  const [sum, term] = [vectors.allocate(), vectors.allocate()];
  const partial: Message<'partial'> = {
    type: 'partial',
    globalStep: 1,
    range: [0, 4],
    gradient: bytesOf(params),
    ...{ lossSum: 1, numCorrect: 1, numImages: 64, startedAt: 1e12, computeMs: 4 },
  };
  const frame = encode(partial);
  const config = parseRunConfig({ dataset: 'mnist', optimizer: 'adam' });
  const optimizer = createOptimizer({ ...config, name: config.optimizer }, vectors);
  const state = optimizer.init(numParams, () => vectors.allocate());
  const [frameMs, msPerByte] = await socketCosts(frame);
  return {
    imagesPerSecond: sizes[0].gradient.best,
    encodeMs: shortestMs(() => encode(partial)),
    decodeMs: shortestMs(() => {
      copyFloat32((decodeWorkerMessage(frame) as typeof partial).gradient, term, 'gradient');
      vectors.isFinite(term);
    }),
    addMs: shortestMs(() => vectors.add(sum, term)),
    updateMs: shortestMs(() => optimizer.update(sum, state, term, 1e-3)),
    frameMs,
    msPerByte,
  };
}

/** What a step's plan costs, and the frame of each whom it is for. */
export interface StepCosts {
  readonly planMs: number;
  readonly encodeMs: number;
  readonly decodeMs: number;
}

/** @param numUnits micro-batches that are shared out to so many */
export function measureStepCosts(numChildren: number, numUnits: number): StepCosts {
  const { numParams } = buildModel(LENET5);
  const units = Array.from({ length: numUnits }, (_, unit) => unit);
  const paces = Array.from({ length: numChildren }, (_, i) => ({
    workerId: `w${String(i).padStart(14, '0')}`,
    msPerUnit: 0.9 + 0.01 * (i % 20),
    overheadMs: 20,
  }));
  const [[, ranges]] = planShares(units, paces, numUnits);
  const numOwn = ranges.reduce((sum, [lo, hi]) => sum + hi - lo, 0);
  const message: Message<'step'> = {
    type: 'step',
    ...{ globalStep: 1, epoch: 1 },
    params: bytesOf(new Float32Array(numParams)),
    numImages: numUnits * MICRO_BATCH,
    ranges: ranges.map(([lo, hi]) => [lo, hi]),
    indices: bytesOf(new Uint32Array(numOwn * MICRO_BATCH)),
  };
  const frame = encode(message);
  return {
    planMs: shortestMs(() => planShares(units, paces, numUnits), 400),
    encodeMs: shortestMs(() => encode(message)),
    decodeMs: shortestMs(() => decodeCoordinatorMessage(frame)),
  };
}

/** The shortest of the repetitions that fit in the time; the first ones warm up. */
function shortestMs(work: () => unknown, forMs = 300): number {
  let shortest = Infinity;
  const until = performance.now() + forMs;
  for (let n = 0; n < 20 || performance.now() < until; n++) {
    const from = performance.now();
    work();
    shortest = Math.min(shortest, performance.now() - from);
    if (performance.now() > until + 20 * forMs) break;
  }
  return shortest;
}

/** Of one side: half of what both take, in one process. @returns ms a frame, ms a byte */
async function socketCosts(large: Frame): Promise<[number, number]> {
  let accepted: (channel: Channel) => void = () => undefined;
  const there = new Promise<Channel>((resolve) => (accepted = resolve));
  const server = await listen({
    ...{
      host: '127.0.0.1',
      port: 0,
      tls: null,
      longestFrameBytes: frameBytes(large),
      clock: systemClock,
    },
    limits: { ...defaultServerLimits(frameBytes(large), 8), channel: NO_LIMITS },
    accept: (channel) => accepted(channel),
    handle: () => false,
    warn: (message) => console.error(message),
  });
  const never = new AbortController().signal;
  const here = await dial(`ws://127.0.0.1:${server.port}`, null, never);
  const upper = await there;
  const ended = new EventTarget();
  here.handler = { received: (frame) => here.send(frame), closed: () => undefined };
  const perTrip = async (frame: Frame, numTrips: number) => {
    let numLeft = numTrips;
    upper.handler = {
      received: () => {
        if (--numLeft > 0) upper.send(frame);
        else ended.dispatchEvent(new Event('end'));
      },
      closed: () => undefined,
    };
    const from = process.cpuUsage();
    const over = once(ended, 'end');
    upper.send(frame);
    await over;
    const { user, system } = process.cpuUsage(from);
    return (user + system) / 1000 / numTrips;
  };
  const least = async (frame: Frame, numTrips: number) => {
    const rounds = [];
    for (let round = 0; round < 8; round++) rounds.push(await perTrip(frame, numTrips));
    return Math.min(...rounds);
  };
  const small = [new Uint8Array(64)];
  const smallMs = await least(small, 200);
  const largeMs = await least(large, 40);
  here.terminate();
  await server.close();
  // A round trip is two frames, each with two sides.
  const frameMs = smallMs / 4;
  return [frameMs, Math.max(0, largeMs / 4 - frameMs) / frameBytes(large)];
}
