/**
 * Checks the shape of a frame in one pass over its bytes, before anything is built from it: a few bytes can make a decoder
 * allocate, share, nest or print too much.
 *
 * A frame begins with one complete msgpack value: maps with string keys, arrays, strings, bytes, numbers, booleans, null.
 * No extension types: they are how msgpackr makes dates, sets, records and graphs with cycles.
 * https://github.com/msgpack/msgpack/blob/master/spec.md
 */
import { ProtocolError } from './errors.js';

/** The deepest messages have three levels, such as `step` → `ranges` → a range. */
const MAX_DEPTH = 6;
/** The longest string of a message has 1,000 UTF-16 units, each 3 bytes of UTF-8 at most. */
const MAX_STRING_BYTES = 3_000;

type Kind = 'map' | 'array' | 'string' | 'plain';

/**
 * @param maxItems values, and keys of maps, that there may be
 * @returns where the value ends
 * @throws {ProtocolError} `malformed`
 */
export function checkShape(frame: Uint8Array, maxItems: number): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  /** Items to come, by level; the keys of a map count as items. */
  const left: number[] = [1];
  const isMap: boolean[] = [false];
  let at = 0;
  let numItems = 0;
  while (left.length > 0) {
    const level = left.length - 1;
    if (left[level] === 0) {
      left.pop();
      isMap.pop();
      continue;
    }
    const isKey = isMap[level] && left[level] % 2 === 0;
    left[level]--;
    if (++numItems > maxItems) throw notAFrame(`more than ${maxItems} values`);
    if (at === frame.length) throw notAFrame('it is cut off');
    const token = frame[at++];
    const [kind, short, lengthBytes] = headOf(token);
    if (lengthBytes > frame.length - at) throw notAFrame('it is cut off');
    const length = lengthBytes === 0 ? short : readLength(view, at, lengthBytes);
    at += lengthBytes;
    if (isKey && kind !== 'string') throw notAFrame('a key that is no string');
    const needed = kind === 'map' ? 2 * length : length;
    if (needed > frame.length - at) throw notAFrame('it is cut off');
    if (kind === 'string' && length > MAX_STRING_BYTES) {
      throw notAFrame(`a string of more than ${MAX_STRING_BYTES} bytes`);
    }
    if (kind === 'map' || kind === 'array') {
      if (left.length > MAX_DEPTH) throw notAFrame(`more than ${MAX_DEPTH} levels`);
      left.push(needed);
      isMap.push(kind === 'map');
    } else at += length;
  }
  return at;
}

/** What a value's first byte says: its kind, and its length or in how many bytes the length follows. */
function headOf(token: number): readonly [kind: Kind, length: number, lengthBytes: 0 | 1 | 2 | 4] {
  if (token < 0x80 || token >= 0xe0) return ['plain', 0, 0];
  if (token < 0x90) return ['map', token & 0x0f, 0];
  if (token < 0xa0) return ['array', token & 0x0f, 0];
  if (token < 0xc0) return ['string', token & 0x1f, 0];
  switch (token) {
    case 0xc0: // null
    case 0xc2: // false
    case 0xc3: // true
      return ['plain', 0, 0];
    case 0xc4: // bytes
      return ['plain', 0, 1];
    case 0xc5:
      return ['plain', 0, 2];
    case 0xc6:
      return ['plain', 0, 4];
    case 0xcc: // 8 bits
    case 0xd0:
      return ['plain', 1, 0];
    case 0xcd: // 16
    case 0xd1:
      return ['plain', 2, 0];
    case 0xca: // 32, the float among them
    case 0xce:
    case 0xd2:
      return ['plain', 4, 0];
    case 0xcb: // 64
    case 0xcf:
    case 0xd3:
      return ['plain', 8, 0];
    case 0xd9:
      return ['string', 0, 1];
    case 0xda:
      return ['string', 0, 2];
    case 0xdb:
      return ['string', 0, 4];
    case 0xdc:
      return ['array', 0, 2];
    case 0xdd:
      return ['array', 0, 4];
    case 0xde:
      return ['map', 0, 2];
    case 0xdf:
      return ['map', 0, 4];
    default:
      throw notAFrame(`a value of type 0x${token.toString(16)}, an extension or none`);
  }
}

function readLength(view: DataView, at: number, numBytes: 1 | 2 | 4): number {
  if (numBytes === 1) return view.getUint8(at);
  return numBytes === 2 ? view.getUint16(at) : view.getUint32(at);
}

export function notAFrame(what: string): ProtocolError {
  return new ProtocolError('malformed', `Not a frame of the protocol: ${what}`);
}
