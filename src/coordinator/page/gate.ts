/**
 * Guards everything served over HTTP: decides who may look at a run, and who may change it.
 *
 * The looking token allows looking, and is exchanged for a cookie if it came in a link; the joining token allows both. A
 * cookie is not the token but 256 bits derived from the run's key. It cannot be guessed, so wrong guesses from the same
 * address do not affect an open page. Tokens may be weak, so after wrong ones an address has to wait, as workers do.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Clock } from '../../shared/clock.js';
import { AddressBook } from '../group/address-book.js';
import { answerText } from './page-assets.js';
import { isLoopback, refuse, setSecurityHeaders } from './request-guard.js';

/** Paths that reveal only that the process is alive: neither a token nor a `Host` is required. */
const HEALTH = new Set(['/healthz', '/readyz']);
/** A token given as `?look=` or `Bearer`; longer ones are ignored. */
const MAX_TOKEN_CHARS = 4096;

export interface GateOptions {
  /** Required to join and change; null for none. */
  readonly joiningToken: string | null;
  /** Required to look; null for none. */
  readonly lookingToken: string | null;
  /** The key that cookies are derived from: at least 32 bytes, stored with the run. */
  readonly key: Uint8Array;
  /** Host names to accept besides those that can only be this machine's. */
  readonly allowedHosts: readonly string[];
  /** Files served without a token, such as those of the page for browser workers. */
  readonly publicPaths?: ReadonlySet<string>;
  readonly clock: Clock;
}

export class Gate {
  private readonly options: GateOptions;
  private readonly addresses = new AddressBook();
  private readonly cookie: { readonly name: string; readonly value: string } | null;

  constructor(options: GateOptions) {
    this.options = options;
    const { lookingToken, key } = options;
    this.cookie = lookingToken === null ? null : cookieFor(lookingToken, key);
  }

  /** Answers a request that must not proceed. @returns whether it did */
  turnsAway(request: IncomingMessage, response: ServerResponse): boolean {
    const [path, query = ''] = (request.url ?? '').split('?', 2);
    if (HEALTH.has(path)) return false;
    setSecurityHeaders(response);
    const refusal = refuse(request, this.options.allowedHosts);
    if (refusal) {
      answerText(response, refusal.status, refusal.reason);
      return true;
    }
    const given = path === '/' ? new URLSearchParams(query).get('look') : null;
    if (given !== null) return this.letIn(given, request, response);
    if (this.options.publicPaths?.has(path)) return false;
    return !this.mayLook(request, response);
  }

  /**
   * Whether the request may change the run; answers it if not. Without a joining token, any request from this machine may:
   * `turnsAway` has already refused pages of other sites.
   */
  mayChange(request: IncomingMessage, response: ServerResponse): boolean {
    const { joiningToken } = this.options;
    if (joiningToken === null) {
      if (isLoopback(request.socket.remoteAddress)) return true;
      answerText(response, 403, 'Without a token, a run can be changed only from its own machine');
      return false;
    }
    return this.isRight(bearerOf(request), [joiningToken], request, response);
  }

  /** Whether the request has the right to join; answers it if not. */
  mayJoin(request: IncomingMessage, response: ServerResponse): boolean {
    const { joiningToken } = this.options;
    return (
      joiningToken === null || this.isRight(bearerOf(request), [joiningToken], request, response)
    );
  }

  private mayLook(request: IncomingMessage, response: ServerResponse): boolean {
    const { lookingToken, joiningToken } = this.options;
    if (this.cookie === null || lookingToken === null) return true;
    if (isSame(cookieOf(request, this.cookie.name), this.cookie.value)) return true;
    const tokens = joiningToken === null ? [lookingToken] : [lookingToken, joiningToken];
    return this.isRight(bearerOf(request), tokens, request, response);
  }

  /** For a link with a token: sets the cookie, and redirects to the page without the token in its address. */
  private letIn(given: string, request: IncomingMessage, response: ServerResponse): boolean {
    const { lookingToken, joiningToken } = this.options;
    if (this.cookie !== null && lookingToken !== null) {
      const tokens = joiningToken === null ? [lookingToken] : [lookingToken, joiningToken];
      if (!this.isRight(given, tokens, request, response)) return true;
      const secure = request.socket instanceof TLSSocket ? '; Secure' : '';
      response.setHeader(
        'Set-Cookie',
        `${this.cookie.name}=${this.cookie.value}; Path=/; HttpOnly; SameSite=Strict${secure}`,
      );
    }
    response.setHeader('Cache-Control', 'no-store');
    if (request.headers['sec-fetch-site'] !== 'cross-site') {
      response.writeHead(303, { Location: './' }).end();
      return true;
    }
    // After a link from another site, a browser does not send the strict cookie with a redirect; so the page refreshes.
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
    response.end(
      '<!doctype html><meta http-equiv="refresh" content="0; url=./"><title>Lockstep</title>\n',
    );
    return true;
  }

  /** Whether the token is one of these; if not, answers the request, and records a wrong token by address. */
  private isRight(
    given: string | null,
    tokens: readonly string[],
    request: IncomingMessage,
    response: ServerResponse,
  ): boolean {
    const unauthorized = (text: string) =>
      answerText(response, 401, text, { 'WWW-Authenticate': 'Bearer realm="lockstep"' });
    if (given === null) {
      unauthorized(
        'Open the link with the token that the coordinator printed, or send the token as Bearer',
      );
      return false;
    }
    const address = request.socket.remoteAddress ?? 'unknown';
    const now = this.options.clock.now();
    const waitMs = this.addresses.of(address).keptOutUntil - now;
    // Checked before the token, so that an attacker who is guessing does not learn whether a guess was right.
    if (waitMs > 0) {
      const seconds = Math.ceil(waitMs / 1000);
      const text = `Too many wrong tokens from this address; wait ${seconds} s`;
      answerText(response, 429, text, { 'Retry-After': String(seconds) });
      return false;
    }
    // Every token is compared, so that the time does not tell which one matches.
    const matches = tokens.map((token) => isSame(given, token));
    if (given.length <= MAX_TOKEN_CHARS && matches.includes(true)) return true;
    this.addresses.failed(now, address);
    unauthorized('The token is wrong');
    return false;
  }
}

/** The name depends on the token, because all ports of a host share their cookies. */
function cookieFor(token: string, key: Uint8Array) {
  const mac = (what: string) => createHmac('sha256', key).update(`${what}:${token}`).digest();
  const name = `lockstep-${mac('cookie name').toString('hex').slice(0, 12)}`;
  return { name, value: mac('cookie').toString('base64url') };
}

function cookieOf({ headers }: IncomingMessage, name: string): string | null {
  const pairs = (headers.cookie ?? '').split(';').map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1) ?? null;
}

function bearerOf({ headers }: IncomingMessage): string | null {
  return /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1] ?? null;
}

/** Compares digests in constant time: neither the token nor its length leaks. */
export function isSame(given: string | null, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return given !== null && timingSafeEqual(digest(given), digest(expected));
}
