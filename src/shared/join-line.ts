/**
 * All that a worker needs to join a run: `wss://HOST:PORT#TOKEN.PIN`. Nothing after the `#` is sent before the coordinator has
 * proved that it has the key whose hash is PIN.
 */
import { UsageError } from './errors.js';

/** Of a SHA-256 in base64url: all of it, since a shorter one could be searched for. */
const PIN = /^[\w-]{43}$/;

export interface JoinLine {
  /** `ws://HOST:PORT` or `wss://HOST:PORT`, without secrets. */
  readonly url: string;
  readonly token: string | null;
  /** SHA-256 of the coordinator's public key (SPKI), base64url; null for whatever certificate the system trusts. */
  readonly pin: string | null;
}

export function formatJoinLine({ url, token, pin }: JoinLine): string {
  const secret = token === null ? '' : encodeURIComponent(token).replaceAll('.', '%2E');
  if (pin !== null) return `${url}#${secret}.${pin}`;
  return secret === '' ? url : `${url}#${secret}`;
}

/** @throws {UsageError} if it is none; the sentence repeats no secret */
export function parseJoinLine(text: string): JoinLine {
  const [url, ...rest] = text.trim().split('#');
  if (!URL.canParse(url) || !['ws:', 'wss:'].includes(new URL(url).protocol)) {
    throw new UsageError(
      `Cannot join ${url}: expected a coordinator's URL, such as ws://HOST:7700 or wss://HOST:7700#TOKEN.PIN`,
    );
  }
  const [secret, pin = null, ...more] = rest.join('#').split('.');
  const isWhole = (pin === null || PIN.test(pin)) && more.length === 0;
  if (!isWhole) {
    throw new UsageError(
      `Cannot join ${url}: the part after the last dot is not a pin of 43 characters; paste the whole line`,
    );
  }
  if (pin !== null && !url.toLowerCase().startsWith('wss:')) {
    throw new UsageError(`Cannot join ${url}: a pin requires wss://`);
  }
  return { url, token: decoded(url, secret) || null, pin };
}

function decoded(url: string, secret: string): string {
  try {
    return decodeURIComponent(secret);
  } catch {
    throw new UsageError(
      `Cannot join ${url}: its token has a % without two digits after it; write %25`,
    );
  }
}
