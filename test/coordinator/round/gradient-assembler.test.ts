import { expect, it } from 'vitest';
import type { Member } from '../../../src/coordinator/group/group.js';
import { GradientAssembler } from '../../../src/coordinator/round/gradient-assembler.js';
import type { VectorOps } from '../../../src/model/engine/simd/vector.js';
import type { Message } from '../../../src/shared/protocol.js';
import { Slices } from '../../../src/shared/slices.js';

it('gradients of the wrong length take no memory', () => {
  let numAllocated = 0;
  const vectors = {
    allocate: () => {
      numAllocated++;
      return new Float32Array(4);
    },
  } as Partial<VectorOps> as VectorOps;
  const assembler = new GradientAssembler(new Slices(4, 1e9), vectors);
  const partial = (numBytes: number) =>
    ({ range: [0, 1], gradient: new Uint8Array(numBytes) }) as unknown as Message<'partial'>;
  const member = {} as Member;
  for (let i = 0; i < 100; i++) {
    expect(() => assembler.complete(member, partial(8))).toThrow('Wrong length of gradient');
  }
  expect(assembler.complete(member, partial(16))).toHaveLength(4);
  expect(numAllocated).toBe(1);
});
