/** A self-signed certificate: the minimum of X.509 in DER (RFC 5280) that TLS needs. */
import { createPublicKey, sign, type KeyObject } from 'node:crypto';
import { isIP, isIPv4, BlockList } from 'node:net';

const DAY_MS = 86_400_000;
/** As long as browsers take: it is made anew at each start. */
const VALID_DAYS = 397;

/**
 * @param key of P-256
 * @param names of the machine: DNS names and addresses, of which none must be there
 * @param serial positive
 * @returns PEM
 */
export function selfSignedCertificate(
  key: KeyObject,
  names: readonly string[],
  serial: Uint8Array,
  nowMs: number,
): string {
  const algorithm = sequence(oid('2a8648ce3d040302')); // ecdsa-with-SHA256
  const commonName = sequence(oid('550403'), der(0x0c, Buffer.from('lockstep')));
  const name = sequence(der(0x31, commonName));
  const validity = sequence(time(nowMs - DAY_MS), time(nowMs + VALID_DAYS * DAY_MS));
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const alternatives = sequence(...names.map(generalName).filter((one) => one !== null));
  const extensions = [
    sequence(oid('551d11'), der(0x04, alternatives)),
    // basicConstraints, critical: it may sign itself, so that it can be given as an authority (curl --cacert).
    sequence(
      oid('551d13'),
      der(0x01, Buffer.of(0xff)),
      der(0x04, sequence(der(0x01, Buffer.of(0xff)))),
    ),
  ];
  const body = sequence(
    der(0xa0, der(0x02, Buffer.of(2))), // v3
    der(0x02, Buffer.concat([Buffer.of(1), serial])),
    ...[algorithm, name, validity, name, publicKey],
    der(0xa3, sequence(...extensions)),
  );
  const signature = der(0x03, Buffer.concat([Buffer.of(0), sign('sha256', body, key)]));
  const base64 = sequence(body, algorithm, signature).toString('base64');
  const lines = base64.match(/.{1,64}/g)!.join('\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, content: Uint8Array): Buffer {
  const { length } = content;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...size), content]);
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, 'hex'));
}

/** UTCTime, to the second; it has two digits for the year, and holds until 2049. */
function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/\.\d+|\D/g, '');
  return der(0x17, Buffer.from(`${digits.slice(2)}Z`));
}

/** Null if it is neither a name nor an address. */
function generalName(name: string): Buffer | null {
  if (isIP(name) !== 0) return der(0x87, addressBytes(name));
  return /^[\w.-]{1,253}$/.test(name) ? der(0x82, Buffer.from(name)) : null;
}

/** 4 or 16 bytes. */
function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  // The URL parser writes it out, but for one run of zeros.
  const [head, tail] = new URL(`http://[${address.split('%')[0]}]`).hostname
    .slice(1, -1)
    .split('::');
  const groups = (text: string | undefined) => (text ? text.split(':') : []);
  const [first, last] = [groups(head), groups(tail)];
  const zeros = new Array<string>(8 - first.length - last.length).fill('0');
  return Buffer.from(
    [...first, ...zeros, ...last].map((hex) => hex.padStart(4, '0')).join(''),
    'hex',
  );
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** True where nobody but this machine gets to. */
export function isLoopback(host: string): boolean {
  const family = isIP(host);
  if (family === 0) return host.toLowerCase() === 'localhost';
  return LOOPBACK.check(host, family === 4 ? 'ipv4' : 'ipv6');
}
