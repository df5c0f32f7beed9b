/**
 * Access to a run: its tokens, TLS and addresses. On loopback, tokens and TLS are used only on request; off loopback, unless
 * they are turned off.
 */
import { X509Certificate, createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { isLoopback, selfSignedCertificate } from '../coordinator/certificate.js';
import { openTlsKey, openToken, writeSecret } from '../coordinator/secrets.js';
import type { Tls } from '../coordinator/server.js';
import { UsageError, UserError, messageOf } from '../shared/errors.js';
import { formatJoinLine } from '../shared/join-line.js';
import type { Logger } from '../shared/node/log.js';
import { pinOf } from '../shared/node/pin.js';
import type { ServeOptions } from './serve-options.js';
import { readText } from './token.js';

/** Off loopback a shorter one could be guessed. */
const MIN_TOKEN_CHARS = 16;

export interface Access {
  /** For joining the run, and changing it. */
  readonly token: string | null;
  /** For looking at it; there is one where there is one for joining. */
  readonly lookToken: string | null;
  readonly tls: (Tls & { readonly pin: string }) | null;
  /** True where the certificate is our own, which only its pin is known by. */
  readonly needsPin: boolean;
  /** What others connect to. */
  readonly hosts: readonly string[];
  /** What a process on this machine connects to. */
  readonly localHost: string;
  readonly isLoopback: boolean;
}

export type AccessOptions = Pick<
  ServeOptions,
  'host' | 'insecure' | 'tlsCert' | 'tlsKey' | 'token' | 'lookToken' | 'browserWorkers'
>;

/**
 * @param path the run directory
 * @throws {UserError} if a file cannot be had, or does not fit
 */
export async function openAccess(
  path: string,
  options: AccessOptions,
  warn: (message: string) => void,
): Promise<Access> {
  const { host, insecure, tlsCert, tlsKey, browserWorkers } = options;
  const isLocal = isLoopback(host);
  if ((tlsCert === null) !== (tlsKey === null)) {
    throw new UsageError('Cannot use TLS with only one of --tls-cert and --tls-key: give both');
  }
  if (insecure && tlsCert !== null) {
    throw new UsageError('Cannot use both --insecure and --tls-cert: give one');
  }
  if (browserWorkers && !isLocal && !insecure && tlsCert === null) {
    throw new UsageError(
      `Cannot admit browsers as workers on ${host}: they cannot pin a certificate; ` +
        'give --tls-cert and --tls-key, or --insecure with --token for plain http, which the whole network can read',
    );
  }
  const isOpen = isLocal || insecure;
  const token = options.token ?? (isOpen ? null : await openToken(join(path, 'token')));
  const lookToken =
    options.lookToken ??
    (token === null ? null : await openToken(join(path, 'look-token'), 'looking token'));
  for (const given of isLocal ? [] : [token, lookToken]) {
    if (given === null || given.length >= MIN_TOKEN_CHARS) continue;
    throw new UsageError(
      `Cannot listen on ${host} with a token of ${given.length} characters: ` +
        `give one of at least ${MIN_TOKEN_CHARS}, or none, and Lockstep makes one`,
    );
  }
  if (token !== null && token === lookToken) {
    throw new UsageError('Cannot use the same token for joining and looking: give two');
  }
  if (!isLocal && insecure) {
    warn(
      '--insecure: anyone on the network can read and change everything' +
        (token === null ? ', and anyone who reaches the port can join' : ', the token too'),
    );
  }
  const addresses = isWildcard(host) ? ownAddresses() : [host];
  const rest = {
    token,
    lookToken,
    localHost: isWildcard(host) ? '127.0.0.1' : host,
    isLoopback: isLocal,
  };
  if (tlsCert !== null && tlsKey !== null) {
    const tls = readTls(tlsCert, tlsKey);
    const names = dnsNames(tls.cert);
    const hosts = names.length > 0 ? names : addresses;
    return { ...rest, tls, needsPin: !namesMachine(tls.cert), hosts };
  }
  const tls = isOpen ? null : await ownTls(path, addresses);
  return { ...rest, tls, needsPin: tls !== null, hosts: addresses };
}

/** What a worker joins at the host. */
export function joinLine(access: Access, host: string, port: number, token: string | null): string {
  const scheme = access.tls ? 'wss' : 'ws';
  const pin = access.needsPin ? access.tls!.pin : null;
  return formatJoinLine({ url: `${scheme}://${bracketed(host)}:${port}`, token, pin });
}

/** What a worker on this machine joins; its token comes in the environment. No certificate has the name of loopback. */
export function localJoinLine(access: Access, port: number): string {
  return joinLine({ ...access, needsPin: access.tls !== null }, access.localHost, port, null);
}

/** The address of something that the port serves. @param path with its slash */
export function pageUrl({ tls }: Access, host: string, port: number, path: string): string {
  return `${tls ? 'https' : 'http'}://${bracketed(host)}:${port}${path}`;
}

/** Keeps the links with their tokens: what a worker joins, for `lockstep worker @FILE`, and what opens the page. */
export async function keepLinks(path: string, access: Access, port: number): Promise<void> {
  await keepPageLink(path, access, port);
  const file = join(path, 'join');
  try {
    await writeSecret(file, `${joinLine(access, access.hosts[0], port, access.token)}\n`);
  } catch (error) {
    throw new UserError(`Cannot keep the join line in ${file}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Keeps the link to the page, with the looking token. */
async function keepPageLink(path: string, access: Access, port: number): Promise<void> {
  if (access.lookToken === null) return;
  const file = join(path, 'page');
  try {
    await writeSecret(file, `${pageLink(access, port, access.lookToken)}\n`);
  } catch (error) {
    throw new UserError(`Cannot keep the link to the page in ${file}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function pageLink(access: Access, port: number, lookToken: string | null): string {
  const { tls, hosts, localHost } = access;
  const host = access.isLoopback || access.needsPin || !tls ? localHost : hosts[0];
  const query = lookToken === null ? '' : `?look=${encodeURIComponent(lookToken)}`;
  return pageUrl(access, host, port, `/${query}`);
}

/** The page, and the line for other machines. A secret is shown on a terminal, and goes into no file. */
export function sayWhere(
  path: string,
  access: Access,
  port: number,
  { needsWorkers, quiet }: { readonly needsWorkers: boolean; readonly quiet: boolean },
  log: Logger,
): void {
  const { lookToken } = access;
  log.info(`Live page: ${pageLink(access, port, null)}`);
  if (lookToken !== null && process.stdout.isTTY && !quiet) {
    process.stdout.write(
      `Open it with this link (it is secret): ${pageLink(access, port, lookToken)}\n`,
    );
  } else if (lookToken !== null) {
    log.info(`The link that opens it, with the looking token, is in ${join(path, 'page')}`);
  }
  if (needsWorkers) sayJoinLines(path, access, port, quiet, log);
}

/** What to start on the machines of workers. */
export function sayJoinLines(
  path: string,
  access: Access,
  port: number,
  quiet: boolean,
  log: Logger,
): void {
  const { token, hosts } = access;
  const canShow = token !== null && process.stdout.isTTY && !access.isLoopback;
  if (canShow && quiet) return;
  if (canShow)
    process.stdout.write(
      'On each worker machine, including everything after the # (it is secret):\n',
    );
  for (const host of hosts) {
    if (canShow) {
      process.stdout.write(`  npx lockstep worker ${joinLine(access, host, port, token)}\n`);
      continue;
    }
    const secret = token === null ? '' : access.isLoopback ? ' --token …' : ' --token-file FILE';
    log.info(
      `On each worker machine: npx lockstep worker ${joinLine(access, host, port, null)}${secret}`,
    );
  }
  if (token !== null && !access.isLoopback) {
    log.info(`The whole line, with the token, is in ${join(path, 'join')}`);
  }
}

async function ownTls(path: string, addresses: readonly string[]): Promise<Access['tls']> {
  const key = await openTlsKey(join(path, 'tls-key.pem'));
  const names = new Set([...addresses, hostname(), 'localhost', '127.0.0.1', '::1']);
  const cert = selfSignedCertificate(key, [...names], randomBytes(8), Date.now());
  const file = join(path, 'tls-cert.pem');
  try {
    await writeFile(file, cert);
  } catch (error) {
    throw new UserError(`Cannot keep the certificate in ${file}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const pem = key.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { key: pem, cert, pin: pinOf(createPublicKey(key)) };
}

function readTls(certFile: string, keyFile: string): NonNullable<Access['tls']> {
  const cert = readText(certFile, 'certificate');
  const key = readText(keyFile, 'key');
  try {
    const certificate = new X509Certificate(cert);
    if (!certificate.checkPrivateKey(createPrivateKey(key))) {
      throw new Error('the key is not that of the certificate');
    }
    return { key, cert, pin: pinOf(certificate.publicKey) };
  } catch (error) {
    throw new UserError(`Cannot use ${certFile} with ${keyFile}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** One that names none, but only a wildcard, is checked by its key. */
function namesMachine(cert: string): boolean {
  const names = new X509Certificate(cert).subjectAltName ?? '';
  return dnsNames(cert).length > 0 || names.includes('IP Address:');
}

/** Those of the certificate that are names of one machine. */
function dnsNames(cert: string): string[] {
  const names = new X509Certificate(cert).subjectAltName ?? '';
  return [...names.matchAll(/DNS:([\w.-]+)/g)].map(([, name]) => name);
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** Addresses of this machine that others may reach. */
function ownAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const outer = all.filter(({ internal, address }) => !internal && !address.startsWith('fe80:'));
  const [four, six] = ['IPv4', 'IPv6'].map((name) => outer.filter(({ family }) => family === name));
  const found = four.length > 0 ? four : six;
  return found.length > 0 ? found.map(({ address }) => address) : ['127.0.0.1'];
}
