import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesOf } from '../../src/shared/codec.js';
import { ProtocolError } from '../../src/shared/errors.js';
import { Assembly, MAX_SLICES, Slices, sliceOf } from '../../src/shared/slices.js';

describe('Slices', () => {
  it('cover each value once, in order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 600 }), (P, S) => {
        const { ranges, early, last, isWhole } = new Slices(P, S);
        expect(ranges.flatMap(([first, end]) => [first, end])).toEqual(
          ranges.flatMap((_, i) => [i * S, Math.min(P, (i + 1) * S)]),
        );
        expect(last[1]).toBe(P);
        expect([...early, last]).toEqual(ranges);
        expect(isWhole).toBe(S >= P);
      }),
    );
  });

  it('are not as many as a coordinator might make a worker send', () => {
    expect(new Slices(MAX_SLICES, 1).ranges).toHaveLength(MAX_SLICES);
    expect(() => new Slices(MAX_SLICES + 1, 1)).toThrow(ProtocolError);
  });
});

describe('Assembly', () => {
  const slices = new Slices(5, 2);
  const values = Float32Array.of(1, 2, 3, 4, 5);
  const send = (assembly: Assembly, index: number) => {
    const range = slices.ranges[index];
    assembly.take(range[0], bytesOf(sliceOf(values, range)), 'params');
  };

  it('puts slices together, and begins anew with the first, wherever it was', () => {
    const assembly = new Assembly(slices, new Float32Array(5));
    for (const index of [0, 1, 0, 1, 2, 0, 1, 2]) send(assembly, index);
    expect(assembly.values).toEqual(values);
  });

  it.each([
    ['one that is left out', [0, 2]],
    ['one twice', [0, 1, 1]],
    ['one before the first', [1]],
    ['one after the last', [0, 1, 2, 2]],
  ])('refuses %s', (_what, order) => {
    const assembly = new Assembly(slices, new Float32Array(5));
    expect(() => order.forEach((index) => send(assembly, index))).toThrow(/^Wrong slice of params/);
  });

  it('refuses another length', () => {
    const assembly = new Assembly(slices, new Float32Array(5));
    expect(() => assembly.take(0, new Uint8Array(7), 'gradient')).toThrow(
      'Wrong slice of gradient: 7 bytes from value 0 on, expected 8 from 0 on',
    );
  });
});
