/**
 * Seeded random numbers: the same ones on every machine. Integer arithmetic alone, no `Math.random` and no function
 * whose bits the host chooses. Not for secrets.
 *
 * Blackman and Vigna, xoshiro128**, Scrambled Linear Pseudorandom Number Generators, 2021, https://prng.di.unimi.it
 */

export interface Random {
  /** An integer in [0, 2³²). */
  uint32(): number;
  /** A multiple of 2⁻⁵³ in [0, 1). */
  float(): number;
  /**
   * An integer in [0, n), each equally likely.
   *
   * @throws {RangeError} if n is no integer in [1, 2³²]
   */
  below(n: number): number;
  /** 0 … n − 1 in random order (Fisher–Yates, from the end). */
  permutation(n: number): Uint32Array;
}

/**
 * The generator of one stream. Streams that differ in seed or labels are independent, so that no part of a run shifts
 * the random numbers of another.
 *
 * @param seed an integer in [0, 2⁵³)
 * @param stream labels such as `'permutation', epoch`; numbers are integers in [0, 2⁵³)
 * @throws {RangeError} if seed or a numeric label is no such integer
 */
export function createRandom(seed: number, ...stream: readonly (number | string)[]): Random {
  const uint32 = xoshiro128(hashLabels([seed, ...stream]));
  const below = (n: number): number => {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) {
      throw new RangeError(`Cannot draw a number below ${n}: expected an integer from 1 to 2^32`);
    }
    // The last, incomplete run of n numbers is drawn again: without that the small ones would come more often.
    const limit = 2 ** 32 - (2 ** 32 % n);
    let value = uint32();
    while (value >= limit) value = uint32();
    return value % n;
  };
  return {
    uint32,
    below,
    float() {
      const high = uint32() >>> 5;
      const low = uint32() >>> 6;
      return (high * 2 ** 26 + low) / 2 ** 53;
    },
    permutation(n) {
      const order = Uint32Array.from({ length: n }, (_, index) => index);
      for (let last = n - 1; last > 0; last--) {
        const chosen = below(last + 1);
        [order[last], order[chosen]] = [order[chosen], order[last]];
      }
      return order;
    },
  };
}

/**
 * xoshiro128**.
 *
 * @param state (4,) not all zero; changed with each number
 */
export function xoshiro128(state: Uint32Array): () => number {
  return () => {
    const result = Math.imul(rotateLeft(Math.imul(state[1], 5), 7), 9) >>> 0;
    const shifted = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotateLeft(state[3], 11);
    return result;
  };
}

/**
 * Four state words, each a hash of all labels from its own starting value. A label's kind and length go in with it, so
 * that (1, 2), (1, '2') and (12) are different streams.
 */
function hashLabels(labels: readonly (number | string)[]): Uint32Array {
  const state = Uint32Array.of(0x9e3779b9, 0x3c6ef372, 0xdaa66d2b, 0x78dde6e4);
  const absorb = (word: number): void => {
    for (let lane = 0; lane < 4; lane++) state[lane] = mix((state[lane] ^ word) + 0x9e3779b9);
  };
  for (const label of labels) {
    if (typeof label === 'string') {
      absorb(label.length * 2 + 1);
      for (let i = 0; i < label.length; i++) absorb(label.charCodeAt(i));
    } else {
      if (!Number.isSafeInteger(label) || label < 0) {
        throw new RangeError(`Cannot seed with ${label}: expected an integer from 0 to 2^53 - 1`);
      }
      absorb(0);
      absorb(label % 2 ** 32);
      absorb(Math.floor(label / 2 ** 32));
    }
  }
  return state;
}

/** The finalizer of MurmurHash3, a bijection of 32 bits. */
function mix(word: number): number {
  word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
  return word ^ (word >>> 16);
}

function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
