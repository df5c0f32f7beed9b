/**
 * What a browser runs as a worker: the session, protocol, codec and `simd` engine of src/, with nothing of Node. The
 * integration test bundles it for a browser; there it answers a coordinator that is written down beforehand.
 */
import { SimdEngine } from '../../src/model/engine/simd/engine.js';
import { joinFrame, type Channel } from '../../src/shared/channel.js';
import { systemClock } from '../../src/shared/clock.js';
import { EngineComputation } from '../../src/worker/engine-computation.js';
import { Memory } from '../../src/worker/memory.js';
import { Session } from '../../src/worker/session.js';

/**
 * @param module a compiled simd.wasm
 * @param replies frames that the coordinator sends after each that it gets
 * @param numAnswers frames that the worker sends in all
 * @returns the frames that the worker sent
 */
export async function answer(
  module: object,
  replies: readonly (readonly Uint8Array[])[],
  numAnswers: number,
): Promise<Uint8Array[]> {
  const said: Uint8Array[] = [];
  let isDone: () => void = () => undefined;
  const done = new Promise<void>((resolve) => (isDone = resolve));
  const channel: Channel = {
    handler: { received: () => undefined, closed: () => undefined },
    bufferedBytes: 0,
    isReceiving: false,
    send(frame, left) {
      said.push(joinFrame(frame).slice());
      left?.();
      if (said.length === numAnswers) isDone();
      for (const reply of replies[said.length - 1] ?? []) {
        queueMicrotask(() => channel.handler.received([reply]));
      }
    },
    close: isDone,
    terminate: isDone,
  };
  const stop = new AbortController();
  const session = new Session(
    {
      createComputation: (model, regularizer) => {
        const engine = new SimdEngine(module, model);
        return Promise.resolve(new EngineComputation(engine, { clock: systemClock, regularizer }));
      },
      engineName: 'simd',
      name: 'browser',
      host: 'browser',
      token: null,
      maxMemoryBytes: 1e9,
      clock: systemClock,
      collectGarbage: () => undefined,
      log: () => undefined,
    },
    channel,
    new Memory(),
  );
  void session.work(stop.signal);
  await done;
  return said;
}
