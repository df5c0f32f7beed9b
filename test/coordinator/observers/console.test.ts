import { describe, expect, it } from 'vitest';
import { createConsoleObserver } from '../../../src/coordinator/observers/console.js';
import type { RunEvent } from '../../../src/coordinator/events.js';
import * as events from '../../support/run-events.js';
import { captureLog } from '../../support/capture-log.js';

function linesOf(stream: RunEvent[], level: 'info' | 'debug' = 'info', timeSummary = ''): string[] {
  const { log, lines } = captureLog({ level });
  const observe = createConsoleObserver({ log, logEvery: 2, timeSummary: () => timeSummary });
  for (const event of stream) observe(event);
  return lines();
}

describe('createConsoleObserver()', () => {
  it('announces the run', () => {
    expect(linesOf([events.started({ numValidation: 5000, numTrain: 55_000 })])).toEqual([
      'first: mnist, 55,000 training, 5,000 held out and 10,000 test images, 61,706 parameters',
      '12 epochs of 938 steps, batch 64 in micro-batches of 16, adam, learning rate 0.006 (cosine), seed 1',
    ]);
  });

  it('says where a run resumes', () => {
    const [line] = linesOf([events.started({ isResumed: true, globalStep: 1200 })]);
    expect(line).toMatch(/^Resuming first at step 1,200: mnist/);
  });

  it('prints one line for logEvery steps, averaged over the images in them', () => {
    const small = { numImages: 32, loss: 2, accuracy: 0.25 };
    const lines = linesOf([
      events.started(),
      events.step(0, { loss: 0.5, accuracy: 1 }),
      events.step(1, small),
      events.step(2),
    ]).slice(2);
    // loss (0.5·64 + 2·32) / 96, accuracy (64 + 8) / 96, 96 images in 8 ms
    expect(lines).toEqual([
      'epoch  1/12  step      2/11,256  loss 1.0000  accuracy  75.00 %   12,000 images/s  2 workers',
    ]);
  });

  it('prints the last steps of a run even if they are fewer', () => {
    const lines = linesOf([
      events.started({ totalSteps: 3 }),
      ...[0, 1, 2].map((t) => events.step(t)),
    ]);
    expect(lines.slice(2)).toHaveLength(2);
  });

  it('prints evaluations in the same columns', () => {
    const lines = linesOf([
      events.started(),
      events.step(936),
      events.step(937),
      events.evaluation(),
    ]).slice(2);
    expect(lines).toEqual([
      'epoch  1/12  step    938/11,256  loss 0.5000  accuracy  87.50 %   16,000 images/s  2 workers',
      'epoch  1/12  step    938/11,256  loss 0.0921  accuracy  97.31 %  test set, 10,000 images in 0.31 s',
    ]);
  });

  it('reports workers that join and leave', () => {
    expect(
      linesOf([
        events.joined('anna'),
        events.joined('bert', { engine: 'webgpu', device: 'H100', isExact: false, worldSize: 2 }),
        events.lost('bert'),
        events.lost('anna', { isGraceful: true, worldSize: 0, message: 'anna left' }),
        events.joined('anna', { isReturn: true }),
      ]),
    ).toEqual([
      'anna joined from box (simd, WebAssembly SIMD): 1 worker',
      'bert joined from box (webgpu, approximate, H100): 2 workers',
      'warn: Lost bert while computing; its 2 micro-batches went to the others',
      'anna left',
      'anna is back from box (simd, WebAssembly SIMD): 1 worker',
    ]);
  });

  it('logs checkpoints only at level debug', () => {
    expect(linesOf([events.checkpoint()])).toEqual([]);
    expect(linesOf([events.checkpoint()], 'debug')).toEqual([
      'debug: Checkpoint of step 938: runs/first/checkpoints/step-938.safetensors, 741.0 KB in 8 ms',
    ]);
  });

  it('passes notices on with their level', () => {
    expect(linesOf([events.notice('Waiting for 2 workers', 'warn')])).toEqual([
      'warn: Waiting for 2 workers',
    ]);
  });

  it('ends with a summary', () => {
    expect(
      linesOf(
        [events.finished({ faults: { workersLost: 1, badNumbers: 0, staleAnswers: 4 } })],
        'info',
        '72 % compute',
      ),
    ).toEqual([
      'Finished after 12 epochs, 11,256 steps, in 45 s',
      '  test accuracy 99.14 %, loss 0.0271',
      '  best          99.16 % at step 10,318 on the test set, which chose it (see --validation-size)',
      '  throughput    16,000 images/s',
      '  time          72 % compute',
      '  workers       anna (simd, WebAssembly SIMD), 50 % of the images',
      '                bert (simd, WebAssembly SIMD), 50 % of the images',
      '  faults        1 worker lost, 4 answers too late',
      `  weights       sha256 ${'ab'.repeat(32)}`,
      '  reproducible  yes, engine simd/1',
    ]);
  });

  it('adds no caveat to a best checkpoint chosen on the validation set', () => {
    const best = { set: 'validation', accuracy: 0.5, globalStep: 7 } as const;
    expect(linesOf([events.finished({ best })])).toContain(
      '  best          50.00 % at step 7 on the validation set',
    );
  });

  it('says when the bits are not reproducible', () => {
    const lines = linesOf([
      events.finished({ reproducible: false, testAccuracy: null, best: null }),
    ]);
    expect(lines.at(-1)).toBe('  reproducible  no, an approximate engine took part');
    expect(lines.join()).not.toContain('accuracy');
    const none = linesOf([events.finished({ reproducible: false, globalStep: 0 })]);
    expect(none.at(-1)).toBe('  reproducible  unknown, no step was made');
  });
});
