import { describe, expect, it } from 'vitest';
import { RunHistory } from '../../../src/coordinator/page/history.js';
import type { Update } from '../../../src/coordinator/page/update.js';
import * as run from '../../support/run-events.js';

const LIVE = { canPredict: true, isLive: true };

function history(...events: Parameters<RunHistory['observe']>[0][]): RunHistory {
  const made = new RunHistory(LIVE);
  for (const event of events) made.observe(event);
  return made;
}

const sizeOf = (update: Update) => JSON.stringify(update).length;

describe('RunHistory', () => {
  it('gives a late page everything', () => {
    const update = history(
      run.started(),
      run.joined('anna'),
      run.step(0),
      run.step(1),
      run.evaluation({ globalStep: 2 }),
      run.finished(),
    ).snapshot(0);
    expect(update.run?.name).toBe('first');
    expect(update.state).toBe('finished');
    expect(update.points?.numPoints).toBe(2);
    expect(update.evaluations).toMatchObject([{ set: 'test', globalStep: 2 }]);
    expect(update.workers).toMatchObject([{ name: 'anna', state: 'here', numImages: 64 }]);
    expect(update.result?.weightsSha256).toHaveLength(64);
  });

  it('thins evaluations of each set, and keeps the newest', () => {
    const made = history(run.started());
    for (let step = 1; step <= 4_000; step += 1) {
      made.observe(run.evaluation({ set: 'validation', globalStep: step }));
      made.observe(run.evaluation({ set: 'test', globalStep: step }));
      const { evaluations = [] } = step % 500 === 1 ? made.snapshot(0) : {};
      if (evaluations.length === 0) continue;
      for (const set of ['validation', 'test']) {
        const rows = evaluations.filter((row) => row.set === set);
        expect(rows.length).toBeGreaterThanOrEqual(Math.min(step, 1_000));
        expect(rows.at(-1)?.globalStep).toBe(step);
      }
    }
  });

  it('takeDelta() returns each change once', () => {
    const made = history(run.started(), run.joined('anna'), run.step(0));
    made.takeDelta(0);
    made.observe(run.step(1));
    const { points, run: info, events } = made.takeDelta(0);
    expect(points?.numPoints).toBe(1);
    expect(info).toBeUndefined();
    expect(events).toBeUndefined();
    expect(made.hasChanges).toBe(false);
    expect(made.takeDelta(0).points).toBeUndefined();
  });

  it('stays bounded, however long the run is', () => {
    const made = history(run.started());
    const sizes: number[] = [];
    for (let step = 0; step < 20_000; step += 1) {
      made.observe(run.step(step, { workers: [], partials: [] }));
      if (step % 10 === 0) {
        made.observe(run.evaluation({ globalStep: step + 1 }));
        made.observe(run.checkpoint({ globalStep: step + 1 }));
        made.observe(run.joined(`worker-${step}`));
        made.observe(run.lost(`worker-${step}`));
      }
      if (step % 10_000 === 9_999) sizes.push(sizeOf(made.snapshot(0)));
    }
    expect(sizes[1]).toBeLessThan(1.6 * sizes[0]);
    const update = made.snapshot(0);
    expect(update.points?.numPoints).toBeLessThanOrEqual(4000);
    expect(update.evaluations?.length).toBeLessThanOrEqual(4000);
    expect(update.events?.length).toBeLessThanOrEqual(500);
    expect(update.workers?.length).toBeLessThanOrEqual(256);
    expect(update.filters?.frames.length).toBeLessThanOrEqual(64);
    // No delta was taken all the while.
    expect(sizeOf(made.takeDelta(0))).toBeLessThan(2 * sizes[1]);
  });

  it('forgets checkpoints before other events', () => {
    const made = history(run.started(), run.notice('keep me', 'warn'));
    for (let at = 0; at < 1000; at += 1) made.observe(run.checkpoint());
    expect(made.snapshot(0).events).toContainEqual(expect.objectContaining({ message: 'keep me' }));
  });

  it('keeps a lost worker, with the phase it was lost in', () => {
    const made = history(run.started(), run.joined('anna'), run.joined('bert'), run.lost('bert'));
    expect(made.snapshot(0).workers).toMatchObject([
      { name: 'anna', state: 'here' },
      { name: 'bert', state: 'lost', lostInPhase: 'computing' },
    ]);
  });

  it('a worker that said goodbye has left, and can come back', () => {
    const made = history(run.started(), run.joined('anna'), run.lost('anna', { isGraceful: true }));
    expect(made.snapshot(0).workers).toMatchObject([{ state: 'left', lostInPhase: null }]);
    made.observe(run.joined('anna', { isReturn: true }));
    expect(made.snapshot(0).workers).toMatchObject([{ state: 'here' }]);
  });

  it('records when a worker was connected, and whether it was lost', () => {
    const made = history(run.started(), run.joined('anna', { time: 1 }));
    made.observe(run.lost('anna', { time: 2 }));
    made.observe(run.joined('anna', { time: 3, isReturn: true }));
    made.observe(run.lost('anna', { time: 4, isGraceful: true }));
    made.observe(run.joined('anna', { time: 5, isReturn: true }));
    expect(made.snapshot(0).workers?.[0].stays).toEqual([
      { from: 1, to: 2, wasLost: true },
      { from: 3, to: 4, wasLost: false },
      { from: 5, to: null, wasLost: false },
    ]);
    for (let at = 0; at < 100; at += 1) {
      made.observe(run.lost('anna'));
      made.observe(run.joined('anna', { isReturn: true }));
    }
    expect(made.snapshot(0).workers?.[0].stays).toHaveLength(16);
  });

  it('keeps the first weights as the first frame of the filters', () => {
    const params = Float32Array.from({ length: 61_706 }, (_, at) => at);
    const made = history(run.started({ params }), run.step(0));
    const [first] = made.snapshot(0).filters!.frames;
    expect(first.globalStep).toBe(0);
    const weights = new Float32Array(new Uint8Array(Buffer.from(first.weights, 'base64')).buffer);
    expect([...weights.slice(0, 3)]).toEqual([0, 1, 2]);
  });

  it.each([
    ['one channel of another size', { channels: 1, height: 14, width: 56 }],
    ['several channels', { channels: 4, height: 14, width: 14 }],
  ])('shows images of %s, with their classes', (_, input) => {
    const made = history(
      run.started({ params: new Float32Array(61_706), input, classNames: ['cat', 'dog', 'owl'] }),
      run.evaluation({
        labels: Uint16Array.of(1, 0),
        predictions: Uint16Array.of(1, 2),
        images: new Uint8Array(2 * 784),
      }),
    );
    const { canPredict, confusion, filters } = made.snapshot(0);
    expect(canPredict).toBe(true);
    expect(confusion).toMatchObject({ numByLabel: [1, 1, 0], numRight: [0, 1, 0] });
    expect(confusion?.pairs).toEqual([{ label: 0, predicted: 2, count: 1 }]);
    expect(Buffer.from(filters!.current.weights, 'base64')).toHaveLength(
      4 * 6 * input.channels * 25,
    );
    expect(made.detail?.labels).toHaveLength(2);
  });

  it('averages shares and rates over a second of steps', () => {
    const made = history(run.started(), run.joined('anna'), run.joined('bert'));
    const [anna, bert] = [
      run.share('anna', { numImages: 48 }),
      run.share('bert', { numImages: 16 }),
    ];
    for (let step = 0; step < 250; step += 1) {
      made.observe(run.step(step, { workers: [anna, bert], times: run.times({ computeMs: 3 }) }));
    }
    const [first, second] = made.snapshot(0).workers ?? [];
    expect([first.share, second.share]).toEqual([0.75, 0.25]);
    // 48 images every 4 ms.
    expect(first.imagesPerSecond).toBeCloseTo(12_000, 0);
    expect(first.computeMs).toBe(3);
  });

  it('counts which digits were mistaken for which', () => {
    const made = history(
      run.started(),
      run.evaluation({
        numImages: 3,
        labels: Uint16Array.of(7, 7, 1),
        predictions: Uint16Array.of(7, 1, 1),
        images: new Uint8Array(3 * 784),
      }),
    );
    const counts = made.snapshot(0).confusion?.counts ?? [];
    expect([counts[77], counts[71], counts[11]]).toEqual([1, 1, 1]);
    expect(made.detail?.predictions).toHaveLength(3);
  });

  it('keeps the filters of the first convolution at regular intervals', () => {
    const made = history(run.started());
    for (let step = 0; step < 1000; step += 1) {
      made.observe(run.step(step, { params: new Float32Array(run.NUM_PARAMS).fill(step) }));
    }
    const { interval, frames, current, numFilters, kernelSize } = made.snapshot(0).filters!;
    expect([numFilters, kernelSize, interval]).toEqual([6, 5, 16]);
    expect(frames.map((frame) => frame.globalStep)).toEqual(
      Array.from({ length: 62 }, (_, at) => 16 * (at + 1)),
    );
    const weights = Buffer.from(current.weights, 'base64');
    expect(weights).toHaveLength(4 * 6 * 25);
    expect(weights.readFloatLE(0)).toBe(999);
  });

  it('continues a resumed run from its checkpoint', () => {
    const made = history(run.started(), run.step(0), run.step(1), run.step(2));
    made.observe(run.evaluation({ globalStep: 3 }));
    made.observe(run.started({ globalStep: 2, isResumed: true, time: run.START + 5000 }));
    made.observe(run.step(2, { time: run.START + 6000 }));
    const { points, evaluations, run: info } = made.snapshot(0);
    expect(points?.numPoints).toBe(3);
    expect(evaluations).toEqual([]);
    expect(info?.startedAt).toBe(run.START);
  });
});
