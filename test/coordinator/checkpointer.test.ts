import { describe, expect, it } from 'vitest';
import { Checkpointer, type CheckpointerOptions } from '../../src/coordinator/checkpointer.js';
import type { RunEvent } from '../../src/coordinator/events.js';
import type { Checkpoint } from '../../src/model/checkpoint.js';
import { DIGITS, LENET5, MNIST } from '../../src/model/lenet.js';
import { UserError } from '../../src/shared/errors.js';
import { VirtualProcess, VirtualTime } from '../support/virtual-clock.js';

function checkpointAt(globalStep: number, value = 0): Checkpoint {
  return {
    params: Float32Array.of(value),
    optimizerState: { tensors: {}, scalars: {} },
    globalStep,
    epoch: 0,
    seed: 1,
    hyperparameters: LENET5,
    input: MNIST.input,
    classNames: DIGITS,
    config: {},
    engineFingerprint: 'simd/1',
    metrics: {},
  };
}

function createCheckpointer(changes: Partial<CheckpointerOptions> = {}) {
  const time = new VirtualTime();
  const { clock } = new VirtualProcess(time, { name: 'coordinator' });
  const state = { globalStep: 0, isFull: false };
  const saved: string[] = [];
  const events: RunEvent[] = [];
  const checkpointer = new Checkpointer(
    {
      clock,
      report: (event) => events.push(event),
      everyMs: 2_000,
      everySteps: 0,
      snapshot: () => checkpointAt(state.globalStep),
      save: async ({ globalStep }, isBest) => {
        await new Promise<void>((resolve) => void time.schedule(10, resolve));
        if (state.isFull) throw new Error('ENOSPC: no space left on device');
        saved.push(`${globalStep}${isBest ? ' best' : ''}`);
        return { path: 'there', bytes: 1 };
      },
      failed: () => undefined,
      ...changes,
    },
    0,
  );
  const saveIfDue = async (globalStep: number, isEpochEnd = false) => {
    state.globalStep = globalStep;
    checkpointer.saveIfDue(globalStep, isEpochEnd);
    await time.advance(100);
  };
  const saveLast = async (globalStep: number) => {
    state.globalStep = globalStep;
    const done = checkpointer.saveLast(globalStep);
    await time.advance(100);
    await done;
  };
  return { time, state, saved, events, checkpointer, saveIfDue, saveLast };
}

describe('Checkpointer', () => {
  it('saves once the interval has passed, and not before', async () => {
    const { time, saved, saveIfDue } = createCheckpointer();
    await saveIfDue(1);
    await time.advance(1_900);
    await saveIfDue(2);
    await saveIfDue(3);
    expect(saved).toEqual(['2']);
  });

  it('saves after the given number of steps', async () => {
    const { saved, saveIfDue } = createCheckpointer({ everySteps: 2 });
    for (const step of [1, 2, 3, 4]) await saveIfDue(step);
    expect(saved).toEqual(['2', '4']);
  });

  it('retries a few seconds after a failure, and reports it', async () => {
    const { time, state, saved, events, saveIfDue } = createCheckpointer();
    state.isFull = true;
    await saveIfDue(1, true);
    state.isFull = false;
    await saveIfDue(2);
    expect(saved).toEqual([]);
    await time.advance(5_000);
    await saveIfDue(3);
    expect(saved).toEqual(['3']);
    expect(events[0]).toMatchObject({
      level: 'warn',
      message:
        'Cannot write the checkpoint of step 1: ENOSPC: no space left on device; ' +
        'training goes on, and the next attempt is in some seconds',
    });
  });

  it('keeps a copy of the best state until it is saved', async () => {
    const { time, state, saved, checkpointer, saveIfDue } = createCheckpointer();
    state.isFull = true;
    state.globalStep = 3;
    checkpointer.markBest();
    await saveIfDue(3, true);
    state.isFull = false;
    await time.advance(5_000);
    await saveIfDue(4);
    expect(saved).toEqual(['3 best']);
  });

  it('saves the last state even if the best one cannot be saved, and reports that it is lost', async () => {
    const { time, state, saved, events, checkpointer } = createCheckpointer({
      save: ({ globalStep }, isBest) => {
        if (isBest) return Promise.reject(new Error('EIO: i/o error'));
        saved.push(String(globalStep));
        return Promise.resolve({ path: 'there', bytes: 1 });
      },
    });
    state.globalStep = 3;
    checkpointer.markBest();
    state.globalStep = 4;
    const done = checkpointer.saveLast(4);
    await time.advance(10_000);
    await done;
    expect(new Set(saved)).toEqual(new Set(['4']));
    expect(events.at(-1)).toMatchObject({
      message: 'Cannot write the checkpoint of step 3: EIO: i/o error; the best state is lost',
    });
  });

  it('retries the last state, as the run waits for it', async () => {
    const { time, state, saved, events, checkpointer } = createCheckpointer();
    state.globalStep = 3;
    state.isFull = true;
    const done = checkpointer.saveLast(3);
    await time.advance(1_000);
    state.isFull = false;
    await time.advance(1_000);
    await done;
    expect(saved).toEqual(['3']);
    expect(events[0]).toMatchObject({ level: 'warn' });
  });

  it('fails with a one-sentence message if the last state cannot be saved', async () => {
    const { time, state, checkpointer, saveIfDue } = createCheckpointer();
    await saveIfDue(2, true);
    state.globalStep = 3;
    state.isFull = true;
    const failed = expect(checkpointer.saveLast(3)).rejects.toThrow(
      new UserError(
        'Cannot write the checkpoint of step 3: ENOSPC: no space left on device, in 5 attempts; ' +
          'the last one there is of step 2: make room, then go on with --resume',
      ),
    );
    await time.advance(10_000);
    await failed;
  });

  it('does not save the last state again if it is already saved', async () => {
    const { saved, saveIfDue, saveLast } = createCheckpointer();
    await saveIfDue(3, true);
    await saveLast(3);
    expect(saved).toEqual(['3']);
  });

  it('saves the last state again after a later evaluation', async () => {
    const { state, saved, checkpointer, saveLast } = createCheckpointer({ everySteps: 1 });
    state.globalStep = 3;
    checkpointer.saveIfDue(3, false);
    checkpointer.saveIfDue(3, true);
    await saveLast(3);
    expect(saved).toEqual(['3', '3']);
  });

  it('does not save weights that are not finite', async () => {
    const { saved, saveLast } = createCheckpointer({ snapshot: () => checkpointAt(3, NaN) });
    await saveLast(3);
    expect(saved).toEqual([]);
  });
});
