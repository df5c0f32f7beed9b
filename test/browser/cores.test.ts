import { describe, expect, it } from 'vitest';
import { momentsWithin, sumOf, type Core } from '../../src/browser/cores.js';

/** A core that did 500 of 1,000 images in a second. */
function core(changes: Partial<Core> = {}): Core {
  const ofRun = { globalStep: 1, totalSteps: 9, numWorkers: 2, loss: 1, testAccuracy: null };
  const moments = [0, 1].map((second) => ({
    progress: { ...ofRun, numImages: 500 * second, numImagesOfAll: 1_000 * second },
    sentAt: 1_000 * second,
  }));
  return { name: 'core', moments, trouble: '', outcome: null, ...changes };
}

describe('sumOf()', () => {
  it('adds up the cores, and leaves those that have ended out of the pace', () => {
    expect(sumOf([core(), core()])).toMatchObject({
      numImages: 1_000,
      pace: { share: 1, imagesPerSecond: 1_000 },
    });
    const ended = core({ outcome: { outcome: 'refused', reason: 'no' } });
    expect(sumOf([core(), ended])).toMatchObject({
      numImages: 1_000,
      pace: { share: 0.5, imagesPerSecond: 500 },
    });
    // Once all have, it is the last.
    expect(sumOf([ended]).pace).toEqual({ share: 0.5, imagesPerSecond: 500 });
  });
});

describe('momentsWithin()', () => {
  const at = (...times: number[]) => times.map((sentAt) => ({ ...core().moments[0], sentAt }));
  it.each([
    [at(1, 2, 3), 2, [2, 3]],
    [at(1, 2, 3), 0, [1, 2, 3]],
    [at(1), 9, [1]],
    [at(1, 5), 9, [5]],
    [[], 9, []],
  ])('keeps the last before the window, case %#', (moments, since, kept) => {
    expect(momentsWithin(moments, since).map(({ sentAt }) => sentAt)).toEqual(kept);
  });
});
