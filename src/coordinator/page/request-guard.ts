/**
 * Decides which browser requests are accepted: those from the run's own pages, and from a user who types its address. Not
 * those of other sites in the same browser, neither through a cross-origin request nor through a host name that they point
 * at this machine or at another that the browser can reach (DNS rebinding).
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { TLSSocket } from 'node:tls';

/** Sent with every answer. Allow no scripts, styles, fonts, images or connections but the coordinator's own. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(), microphone=(), geolocation=(), payment=(), usb=()',
};

export function setSecurityHeaders(response: ServerResponse): void {
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
}

export interface Refusal {
  readonly status: number;
  readonly reason: string;
}

/**
 * Why a request is refused; null if it is not.
 *
 * @param allowedHosts host names to accept besides those that can only be this machine's
 */
export function refuse(request: IncomingMessage, allowedHosts: readonly string[]): Refusal | null {
  const { host, origin } = request.headers;
  const name = hostName(host);
  if (name === null) return { status: 400, reason: 'Wrong Host header' };
  if (!isOwnName(name, allowedHosts)) {
    return { status: 421, reason: `Not known by the name ${name}: see --allowed-hosts` };
  }
  const site = request.headers['sec-fetch-site'];
  const isNavigation = request.headers['sec-fetch-mode'] === 'navigate' && request.method === 'GET';
  if (site !== undefined && site !== 'same-origin' && site !== 'none' && !isNavigation) {
    return { status: 403, reason: 'Not for pages of other sites' };
  }
  if (origin !== undefined && hostOf(origin) !== host?.toLowerCase()) {
    return { status: 403, reason: 'Not for pages of other sites' };
  }
  return null;
}

/**
 * Whether a WebSocket was opened by one of our own pages: its origin has the host and the scheme of the request, and the
 * host is a name that no stranger can point at this machine.
 */
export function isFromOwnPage(request: IncomingMessage, allowedHosts: readonly string[]): boolean {
  const { host, origin } = request.headers;
  const name = hostName(host);
  if (name === null || origin === undefined || !isOwnName(name, allowedHosts)) return false;
  const isSecure = request.socket instanceof TLSSocket;
  return origin.toLowerCase() === `${isSecure ? 'https' : 'http'}://${host!.toLowerCase()}`;
}

/** `Host` without its port, in lower case; null if it is malformed. */
function hostName(host: string | undefined): string | null {
  if (host === undefined || host.length > 300) return null;
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/i.exec(host);
  return match ? match[1].replace(/^\[|\]$/g, '').toLowerCase() : null;
}

function hostOf(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}

/** Accepts only names that no stranger can register: IP addresses, names without a dot, this machine's, allowed ones. */
function isOwnName(name: string, allowedHosts: readonly string[]): boolean {
  return (
    isIP(name) !== 0 ||
    !name.includes('.') ||
    name.endsWith('.localhost') ||
    name.endsWith('.local') ||
    name === hostname().toLowerCase() ||
    allowedHosts.some((allowed) => allowed.toLowerCase() === name)
  );
}

export function isLoopback(address: string | undefined): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address ?? '');
}
