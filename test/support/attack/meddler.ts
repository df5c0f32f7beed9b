/**
 * A network that changes what passes: between a real worker and the real coordinator, in both directions. Until the
 * frame that it changes it is honest, so each message is met in each state.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer, type RawData } from 'ws';
import { decodeCoordinatorMessage, decodeWorkerMessage } from '../../../src/shared/codec.js';
import type { Random } from '../../../src/shared/random.js';
import { mutate } from './mutate.js';
import type { Target } from './target.js';

/** Frames that pass before the first that is changed, at most. */
const MAX_PATIENCE = 60;

export interface Meddler {
  readonly port: number;
  readonly numChanged: () => number;
  readonly close: () => Promise<void>;
}

/** @param address where its connections to the coordinator come from */
export async function startMeddler(
  { port, isSecure, corpus }: Target,
  address: string,
  random: Random,
): Promise<Meddler> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
  await once(server, 'listening');
  let numChanged = 0;
  server.on('connection', (worker) => {
    const coordinator = new WebSocket(`${isSecure ? 'wss' : 'ws'}://127.0.0.1:${port}`, {
      localAddress: address,
      perMessageDeflate: false,
      rejectUnauthorized: false,
    });
    const early: RawData[] = [];
    let patience = random.below(MAX_PATIENCE);
    const pass = (from: WebSocket, to: WebSocket, data: RawData) => {
      const frame = data as Buffer;
      if (to.readyState !== WebSocket.OPEN) return;
      if (patience-- > 0) {
        to.send(frame);
        return;
      }
      const decode = from === worker ? decodeWorkerMessage : decodeCoordinatorMessage;
      const recorded = { frame, message: decode([frame]) };
      // One way or back, at once or one after the other.
      for (let i = random.below(3); i >= 0; i--) {
        numChanged++;
        const way = random.below(8) === 0 ? from : to;
        way.send(mutate(recorded, corpus.all(), random));
      }
      patience = random.below(4);
    };
    worker.on('message', (data) => {
      if (coordinator.readyState === WebSocket.CONNECTING) early.push(data);
      else pass(worker, coordinator, data);
    });
    coordinator.once('open', () => early.forEach((data) => pass(worker, coordinator, data)));
    coordinator.on('message', (data) => pass(coordinator, worker, data));
    for (const [one, other] of [
      [worker, coordinator],
      [coordinator, worker],
    ] as const) {
      one.on('error', () => undefined);
      one.once('close', () => other.terminate());
    }
  });
  return {
    port: (server.address() as AddressInfo).port,
    numChanged: () => numChanged,
    close: () => closeServer(server),
  };
}

/** A coordinator that says what others said, changed: to real workers, for as long as it is open. */
export async function startHostileCoordinator(
  { corpus }: Target,
  random: Random,
): Promise<Meddler> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
  await once(server, 'listening');
  let numChanged = 0;
  const states = [
    [],
    ['welcome'],
    ['welcome', 'samples', 'step'],
    ['welcome', 'samples', 'evaluate'],
  ];
  // A worker that is told that all is over ends: that is tried elsewhere.
  const all = corpus
    .all()
    .filter(({ message: { type } }) => type !== 'finished' && type !== 'refused');
  server.on('connection', (worker) => {
    worker.on('error', () => undefined);
    const state = states[random.below(states.length)];
    let numHeard = 0;
    worker.on('message', () => {
      // After hello what is honest; after ready, or instead of it, what is not.
      const isReady = ++numHeard > 1 || state.length === 0;
      if (numHeard === 1) for (const type of state.slice(0, 1)) worker.send(corpus.of(type).frame);
      if (!isReady) return;
      for (const type of state.slice(1)) worker.send(corpus.of(type).frame);
      for (let i = random.below(16); i >= 0; i--) {
        numChanged++;
        worker.send(mutate(all[random.below(all.length)], all, random), {
          binary: random.below(8) > 0,
        });
      }
    });
  });
  return {
    port: (server.address() as AddressInfo).port,
    numChanged: () => numChanged,
    close: () => closeServer(server),
  };
}

function closeServer(server: WebSocketServer): Promise<void> {
  for (const client of server.clients) client.terminate();
  return new Promise((resolve) => server.close(() => resolve()));
}
