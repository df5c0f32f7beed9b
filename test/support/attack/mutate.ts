/**
 * Frames that were recorded, changed: some bytes, some structure, some values at the edges of what is allowed. What
 * comes out may be valid, nearly valid, or nothing at all.
 */
import { Packr } from 'msgpackr';
import { encode } from '../../../src/shared/codec.js';
import type { Random } from '../../../src/shared/random.js';
import type { Recorded } from './corpus.js';

/** Of what no message holds: dates, sets, numbers without end, cycles. */
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
type Fields = Record<string, Value>;

/** @param corpus frames to take pieces from, one at least */
export function mutate(
  { frame, message }: Recorded,
  corpus: readonly Recorded[],
  random: Random,
): Buffer {
  switch (random.below(9)) {
    case 0:
      return flip(Buffer.from(frame), random);
    case 1:
      return Buffer.from(frame.subarray(0, random.below(frame.length + 1)));
    case 2:
      return insert(frame, random);
    case 3:
      return splice(frame, corpus[random.below(corpus.length)].frame, random);
    case 4:
      return Buffer.concat([frame, frame]);
    case 5:
      return knot(message, random);
    default:
      return change(message, random);
  }
}

/** Bytes of any kind, such as a request: some are others, more or fewer. */
export function mutateBytes(bytes: Uint8Array, random: Random): Buffer {
  switch (random.below(4)) {
    case 0:
      return flip(Buffer.from(bytes), random);
    case 1:
      return Buffer.from(bytes.subarray(0, random.below(bytes.length + 1)));
    case 2:
      return insert(bytes, random);
    default:
      return splice(bytes, bytes, random);
  }
}

/** In the first bytes as a rule: what follows is pixels. */
const placeIn = (frame: Uint8Array, random: Random) =>
  random.below(random.below(4) > 0 ? Math.min(frame.length, 200) : frame.length);

function flip(frame: Buffer, random: Random): Buffer {
  for (let i = random.below(4); i >= 0 && frame.length > 0; i--) {
    frame[placeIn(frame, random)] ^= 1 << random.below(8);
  }
  return frame;
}

function insert(frame: Uint8Array, random: Random): Buffer {
  const at = frame.length === 0 ? 0 : placeIn(frame, random);
  const bytes = Buffer.from(Array.from({ length: 1 + random.below(8) }, () => random.below(256)));
  return Buffer.concat([frame.subarray(0, at), bytes, frame.subarray(at)]);
}

/** The beginning of one, and the end of another. */
function splice(frame: Uint8Array, other: Uint8Array, random: Random): Buffer {
  const [at, from] = [random.below(frame.length + 1), random.below(other.length + 1)];
  return Buffer.concat([frame.subarray(0, at), other.subarray(from)]);
}

/** Something in it is another value, is missing, or is there under another name. */
function change(message: Recorded['message'], random: Random): Buffer {
  const fields: Fields = { ...message };
  const keys = Object.keys(fields);
  const key = keys[random.below(keys.length)];
  switch (random.below(4)) {
    case 0:
      return pack(Object.fromEntries(Object.entries(fields).filter(([name]) => name !== key)));
    case 1:
      // Not by assignment, which makes a prototype of `__proto__`.
      Object.defineProperty(fields, TEXTS[random.below(TEXTS.length)], {
        value: fields[key],
        enumerable: true,
      });
      break;
    default:
      fields[key] = otherThan(fields[key], random);
  }
  return pack(fields);
}

/** A graph with cycles, or one whose print would have no end. */
function knot(message: Recorded['message'], random: Random): Buffer {
  const fields: Fields = { ...message };
  let tied: Value[] = [];
  const first = tied;
  for (let i = 8 + random.below(20); i > 0; i--) tied = [tied, tied];
  if (random.below(2) === 0) first.push(tied);
  fields[Object.keys(fields)[0]] = tied;
  // A byte too many is what makes msgpackr print what it has.
  return Buffer.concat([graphs.pack(fields), Buffer.alloc(random.below(2))]);
}

/** As the protocol packs it; what that cannot hold is packed all the same. */
function pack(fields: Fields): Buffer {
  try {
    return Buffer.concat(encode(fields as Recorded['message']));
  } catch {
    return graphs.pack(fields);
  }
}

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
  if (value?.constructor === Object && choice < 5) {
    const keys = Object.keys(value);
    const key = keys[random.below(Math.max(1, keys.length))];
    return { ...value, [key]: otherThan((value as Fields)[key], random) };
  }
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
