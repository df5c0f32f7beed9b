/**
 * Frames that were recorded, changed: some bytes, some structure, some values at the edges of what is allowed. What
 * comes out may be valid, nearly valid, or nothing at all.
 */
import { Packr } from 'msgpackr';
import type { Random } from '../../../src/shared/random.js';

const packr = new Packr({ useRecords: false, variableMapSize: true, moreTypes: true });
const graphs = new Packr({ useRecords: false, moreTypes: true, structuredClone: true });

const NUMBERS = [
  ...[0, -0, -1, 1, 0.5, 127, 128, 255, 256, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1],
  ...[2 ** 32, 2 ** 53, 1e15, 1e16, 1e300, NaN, Infinity, -Infinity, 86_400_000, 86_400_001],
];
const TEXTS = [
  '',
  'a',
  'w1',
  '__proto__',
  'constructor',
  'ы'.repeat(120),
  '\u{1b}[2J',
  '😀'.repeat(999),
];

type Value = unknown;

/** @param corpus frames to take pieces from, one at least */
export function mutate(frame: Uint8Array, corpus: readonly Uint8Array[], random: Random): Buffer {
  const copy = Buffer.from(frame);
  const kinds = [flip, cut, insert, splice, repeat, change, change, change, graph];
  return kinds[random.below(kinds.length)](copy, corpus, random);
}

type Mutation = (frame: Buffer, corpus: readonly Uint8Array[], random: Random) => Buffer;

/** In the first bytes as a rule: what follows is pixels. */
const placeIn = (frame: Buffer, random: Random) =>
  random.below(random.below(4) > 0 ? Math.min(frame.length, 200) : frame.length);

const flip: Mutation = (frame, _corpus, random) => {
  for (let i = random.below(4); i >= 0 && frame.length > 0; i--) {
    frame[placeIn(frame, random)] ^= 1 << random.below(8);
  }
  return frame;
};

const cut: Mutation = (frame, _corpus, random) => frame.subarray(0, random.below(frame.length + 1));

const insert: Mutation = (frame, _corpus, random) => {
  const at = placeIn(frame, random);
  const bytes = Buffer.from(Array.from({ length: 1 + random.below(8) }, () => random.below(256)));
  return Buffer.concat([frame.subarray(0, at), bytes, frame.subarray(at)]);
};

const splice: Mutation = (frame, corpus, random) => {
  const other = corpus[random.below(corpus.length)];
  const [at, from] = [random.below(frame.length + 1), random.below(other.length + 1)];
  return Buffer.concat([frame.subarray(0, at), other.subarray(from)]);
};

const repeat: Mutation = (frame) => Buffer.concat([frame, frame]);

/** Something in it is another value, is missing, or is there under another name. */
const change: Mutation = (frame, corpus, random) => {
  const message = unpack(frame);
  if (message === null) return flip(frame, corpus, random);
  const keys = Object.keys(message);
  const key = keys[random.below(keys.length)];
  switch (random.below(4)) {
    case 0:
      return Buffer.from(
        packr.pack(Object.fromEntries(Object.entries(message).filter(([name]) => name !== key))),
      );
    case 1:
      // Not by assignment, which makes a prototype of `__proto__`.
      Object.defineProperty(message, TEXTS[random.below(TEXTS.length)], {
        value: message[key],
        enumerable: true,
      });
      break;
    default:
      message[key] = otherThan(message[key], random);
  }
  return Buffer.from(packr.pack(message));
};

/** A graph with cycles, or one whose print would have no end. */
const graph: Mutation = (frame, corpus, random) => {
  const message = unpack(frame);
  if (message === null) return cut(frame, corpus, random);
  let knot: Value[] = [];
  const first = knot;
  for (let i = 8 + random.below(20); i > 0; i--) knot = [knot, knot];
  if (random.below(2) === 0) first.push(knot);
  message[Object.keys(message)[0]] = knot;
  // A byte too many is what makes msgpackr print what it has.
  return Buffer.concat([graphs.pack(message), Buffer.alloc(random.below(2))]);
};

function otherThan(value: Value, random: Random): Value {
  const choice = random.below(8);
  if (value instanceof Uint8Array && choice < 5) {
    if (choice < 2) return value.subarray(0, random.below(value.length + 1));
    const copy = Buffer.from(value);
    for (let i = 0; i < 4 && copy.length > 0; i++)
      copy[random.below(copy.length)] = random.below(256);
    return copy;
  }
  if (Array.isArray(value) && choice < 5) return value.map(() => otherThan(0, random));
  switch (choice) {
    case 5:
      return TEXTS[random.below(TEXTS.length)];
    case 6:
      return [null, true, [], {}, [[]], new Date(0), new Set([1]), 2n ** 70n][random.below(8)];
    case 7:
      return Buffer.alloc(random.below(3) * 50_000);
    default:
      return NUMBERS[random.below(NUMBERS.length)];
  }
}

function unpack(frame: Buffer): Record<string, Value> | null {
  try {
    const value: unknown = packr.unpack(frame);
    return typeof value === 'object' && value !== null && Object.keys(value).length > 0
      ? (value as Record<string, Value>)
      : null;
  } catch {
    return null;
  }
}
