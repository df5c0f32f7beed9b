import { expect, it } from 'vitest';
import { ProtoWriter } from '../../../src/shared/node/proto-writer.js';

it('keeps a short text wherever its buffer ends', () => {
  for (let numBytes = 0; numBytes < 3_000; numBytes++) {
    const writer = new ProtoWriter();
    writer.blob(1, new Uint8Array(numBytes));
    writer.string(2, 'ab');
    expect([...writer.bytes().subarray(-4)], `after ${numBytes} bytes`).toEqual([18, 2, 97, 98]);
  }
});
