import { describe, expect, it } from 'vitest';
import { localWorkersOf } from '../../src/cli/train.js';

describe('localWorkersOf()', () => {
  const simd = { engine: 'simd', maxWorkers: 256 } as const;
  const of = (engine: string, threads: number | null) => ({ engine, threads });

  it.each([
    ['one worker with as many threads as it sees fit', simd, 4, [of('simd', null)]],
    ['as many threads as asked for', { ...simd, threads: 3 }, 8, [of('simd', 3)]],
    ['workers of one thread', { ...simd, workers: 2 }, 8, [of('simd', 1), of('simd', 1)]],
    ['workers with threads', { ...simd, workers: 1, threads: 2 }, 8, [of('simd', 2)]],
    [
      'engines as listed',
      { ...simd, engines: ['webgpu', 'simd'] as const },
      8,
      [of('webgpu', 1), of('simd', 1)],
    ],
    [
      'a worker a core of an engine that does not know threads',
      { engine: 'reference', maxWorkers: 256 } as const,
      2,
      [of('reference', 1), of('reference', 1)],
    ],
    [
      'no more than may join',
      { engine: 'reference', maxWorkers: 1 } as const,
      2,
      [of('reference', 1)],
    ],
  ])('gives %s', (_what, choice, numCores, workers) => {
    expect(localWorkersOf(choice, numCores)).toEqual(workers);
  });
});
