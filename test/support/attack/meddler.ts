/**
 * A network that changes what passes: between a real worker and the real coordinator, in both directions. Until the
 * frame that it changes it is honest, so each message is met in each state.
 */
import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer, type RawData } from 'ws';
import type { Random } from '../../../src/shared/random.js';
import type { Corpus } from './corpus.js';
import { mutate } from './mutate.js';

/** Frames that pass before the first that is changed, at most. */
const MAX_PATIENCE = 60;

export interface Meddler {
  readonly port: number;
  readonly numChanged: () => number;
  readonly close: () => Promise<void>;
}

/** @param address where its connections to the coordinator come from */
export async function startMeddler(
  target: string,
  address: string,
  corpus: Corpus,
  random: Random,
): Promise<Meddler> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
  await new Promise((resolve) => server.once('listening', resolve));
  let numChanged = 0;
  server.on('connection', (worker) => {
    const coordinator = new WebSocket(target, { localAddress: address, perMessageDeflate: false });
    const early: RawData[] = [];
    let patience = random.below(MAX_PATIENCE);
    const pass = (from: WebSocket, to: WebSocket, data: RawData) => {
      const frame = data as Buffer;
      corpus.add(frame);
      if (to.readyState !== WebSocket.OPEN) return;
      if (patience-- > 0) {
        to.send(frame);
        return;
      }
      // One way or back, at once or one after the other.
      for (let i = random.below(3); i >= 0; i--) {
        numChanged++;
        const way = random.below(8) === 0 ? from : to;
        way.send(mutate(frame, corpus.all(), random));
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
    close: () =>
      new Promise((resolve) => {
        for (const client of server.clients) client.terminate();
        server.close(() => resolve());
      }),
  };
}
