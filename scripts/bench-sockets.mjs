/**
 * What a plain `ws` server costs that sends 247 KB to each of its clients and receives as much from each, as a coordinator
 * does in a step, and does nothing with it: processor time per client and step, to be compared with
 * `lockstep bench coordinator`.
 *
 *   node scripts/bench-sockets.mjs [--workers 64] [--seconds 5]
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { WebSocket, WebSocketServer } from 'ws';
import { letHeapGrow } from '../dist/cli/v8.js';
import { LENET5, buildModel } from '../dist/model/lenet.js';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const NUMS_OF_WORKERS = [1, 4, 16, 64, 256];
const WARM_UP_S = 2;
const frame = Buffer.alloc(4 * buildModel(LENET5).numParams);
const noMask = () => undefined;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    workers: { type: 'string', default: '64' },
    seconds: { type: 'string', default: '5' },
  },
});

if (positionals.length === 2) await answer(...positionals);
else {
  for (const numWorkers of NUMS_OF_WORKERS.filter((num) => num <= Number(values.workers))) {
    const ms = await measure(numWorkers, Number(values.seconds));
    console.log(`${String(numWorkers).padStart(4)} workers: ${ms.toFixed(3)} ms a worker and step`);
  }
}

/** The clients, in a process of their own. */
async function answer(url, numClients) {
  letHeapGrow();
  process.on('disconnect', () => process.exit());
  for (let i = 0; i < Number(numClients); i++) {
    const socket = new WebSocket(url, { perMessageDeflate: false, generateMask: noMask });
    socket.on('message', () => socket.send(frame, { binary: true }));
    await once(socket, 'open');
  }
}

/** @returns the server's processor time per client and step, user and system, ms */
async function measure(numClients, seconds) {
  letHeapGrow();
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  await once(server, 'listening');
  const url = `ws://127.0.0.1:${server.address().port}`;
  const child = fork(new URL(import.meta.url), [url, String(numClients)]);
  const sockets = [];
  let numAnswers = 0;
  let numSteps = 0;
  const step = () => {
    for (const socket of sockets) socket.send(frame, { binary: true });
  };
  server.on('connection', (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('message', () => {
      if (++numAnswers % numClients > 0) return;
      numSteps++;
      step();
    });
    if (sockets.length === numClients) step();
  });
  await sleep(1000 * WARM_UP_S);
  const before = { numSteps, cpu: process.cpuUsage() };
  await sleep(1000 * seconds);
  const { user, system } = process.cpuUsage(before.cpu);
  if (numSteps === before.numSteps) throw new Error('No step was made: give it more --seconds');
  const ms = (user + system) / 1000 / (numSteps - before.numSteps) / numClients;
  child.disconnect();
  for (const socket of sockets) socket.terminate();
  server.close();
  await once(child, 'exit');
  return ms;
}
