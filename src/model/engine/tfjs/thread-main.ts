/** The far side of thread.ts: one engine, one request after the other. */
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf, UserError } from '../../../shared/errors.js';
import type { Engine } from '../engine.js';
import type { GradientResult, ThreadReply, ThreadRequest, ThreadStart } from './thread.js';
import { buildModel } from '../../lenet.js';
import { loadTfjsEngine } from './packages.js';

const port = parentPort!;
const { name, hyperparameters, device, ...data } = workerData as ThreadStart;

const send = (reply: ThreadReply, transfer: readonly ArrayBuffer[] = []): void =>
  port.postMessage(reply, transfer);
const sendFailure = (error: unknown): void =>
  send({ kind: 'failed', message: messageOf(error), isUserError: error instanceof UserError });

try {
  const { engine } = await loadTfjsEngine(name, buildModel(hyperparameters, data), device);
  let previous = Promise.resolve();
  port.on('message', (request: ThreadRequest) => {
    previous = previous.then(() => handle(engine, request)).catch(sendFailure);
  });
  send({ kind: 'ready', fingerprint: engine.fingerprint, device: engine.device });
} catch (error) {
  sendFailure(error);
}

async function handle(engine: Engine, request: ThreadRequest): Promise<void> {
  switch (request.kind) {
    case 'setParams':
      engine.setParams(request.params);
      send({ kind: 'done', result: null });
      break;
    case 'gradient': {
      const gradient = new Float32Array(engine.model.numParams);
      const sums = await engine.gradient(request.images, request.labels, gradient, request);
      const result: GradientResult = { ...sums, gradient };
      send({ kind: 'done', result }, [gradient.buffer]);
      break;
    }
    case 'evaluate':
      send({ kind: 'done', result: await engine.evaluate(request.images, request.labels) });
      break;
    case 'predict': {
      const probabilities = await engine.predict(request.images);
      send({ kind: 'done', result: probabilities });
      break;
    }
    case 'dispose':
      await engine.dispose();
      send({ kind: 'done', result: null });
      break;
  }
}
