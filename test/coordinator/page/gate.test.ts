import { createServer, request as httpRequest, IncomingMessage } from 'node:http';
import { Socket, type AddressInfo } from 'node:net';
import { TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Gate, type GateOptions } from '../../../src/coordinator/page/gate.js';
import { isFromOwnPage, refuse } from '../../../src/coordinator/page/request-guard.js';
import { createManualClock } from '../../support/manual-clock.js';

const JOINING = 'joining-token-of-the-run';
const LOOKING = 'looking-token of ä run?';
const key = new Uint8Array(32).fill(7);

async function serve(options: Partial<GateOptions> = {}) {
  const clock = createManualClock(0);
  const gate = new Gate({
    ...{ joiningToken: JOINING, lookingToken: LOOKING, key, allowedHosts: [], clock },
    ...options,
  });
  const server = createServer((request, response) => {
    if (gate.turnsAway(request, response)) return;
    if (request.method === 'POST' && !gate.mayChange(request, response)) return;
    response.end('inside');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const ask = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    new Promise<{ status: number; headers: IncomingMessage['headers']; body: string }>(
      (resolve, reject) => {
        httpRequest({ port, path, method, headers, agent: false }, (response) => {
          let body = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
          response.once('end', () =>
            resolve({ status: response.statusCode!, headers: response.headers, body }),
          );
        })
          .once('error', reject)
          .end();
      },
    );
  const bearer = (token: string) => ({ Authorization: `Bearer ${token}` });
  const link = `/?look=${encodeURIComponent(LOOKING)}`;
  return { ask, bearer, link, clock };
}

describe('Gate', () => {
  it('requires nothing if the run has no token', async () => {
    const { ask } = await serve({ joiningToken: null, lookingToken: null });
    for (const path of ['/', '/metrics', '/api/history', '/nothing']) {
      expect((await ask(path)).body).toBe('inside');
    }
  });

  it('shows only that it is alive without a token', async () => {
    const { ask } = await serve({ publicPaths: new Set(['/work']) });
    for (const path of ['/', '/?', '/page.js', '/metrics', '/api/history', '/api/events', '/x']) {
      expect([path, (await ask(path)).status]).toEqual([path, 401]);
    }
    for (const path of ['/healthz', '/readyz?x', '/work']) {
      expect([path, (await ask(path)).body]).toEqual([path, 'inside']);
    }
    expect((await ask('/healthz', { Host: 'rebound.evil.example' })).body).toBe('inside');
  });

  it('admits the looking token and the joining token', async () => {
    const { ask, bearer } = await serve({ lookingToken: 'looking-token' });
    for (const token of ['looking-token', JOINING]) {
      expect((await ask('/metrics', bearer(token))).status).toBe(200);
    }
    for (const token of ['looking-toke', `${JOINING}x`]) {
      const { status, headers } = await ask('/metrics', bearer(token));
      expect([status, headers['www-authenticate']]).toEqual([401, 'Bearer realm="lockstep"']);
    }
    expect((await ask('/metrics', { Authorization: `Basic ${JOINING}` })).status).toBe(401);
    // Only the page's link may have a token in the address: elsewhere it would end up in the logs of proxies.
    expect((await ask('/metrics?look=looking-token')).status).toBe(401);
  });

  it('exchanges the token in a link for a cookie, and removes it from the address', async () => {
    const { ask, link } = await serve();
    const { status, headers } = await ask(link);
    expect([status, headers.location, headers['cache-control']]).toEqual([303, './', 'no-store']);
    const [cookie, ...attributes] = headers['set-cookie']![0].split('; ');
    expect(attributes).toEqual(['Path=/', 'HttpOnly', 'SameSite=Strict']);
    expect(cookie).toMatch(/^lockstep-[0-9a-f]{12}=[\w-]{43}$/);
    expect((await ask('/api/history', { Cookie: `other=1; ${cookie}` })).body).toBe('inside');
    // The cookie only allows looking.
    expect((await ask('/api/x', { Cookie: cookie }, 'POST')).status).toBe(401);

    const other = await serve({ key: new Uint8Array(32) });
    expect((await other.ask('/', { Cookie: cookie })).status).toBe(401);
    expect((await ask('/?look=wrong')).headers['set-cookie']).toBeUndefined();
  });

  it('makes the browser reload after a link from another site, as it sends no cookie with that redirect', async () => {
    const { ask, link } = await serve();
    const { status, headers, body } = await ask(link, {
      'Sec-Fetch-Site': 'cross-site',
      'Sec-Fetch-Mode': 'navigate',
    });
    expect([status, headers['set-cookie']?.length]).toEqual([200, 1]);
    expect(body).toContain('content="0; url=./"');
  });

  it('makes an address that guesses wait, even if a guess is right, but not its cookies', async () => {
    const { ask, bearer, link, clock } = await serve();
    const [cookie] = (await ask(link)).headers['set-cookie']![0].split('; ');
    for (let i = 0; i < 4; i++) expect((await ask('/', bearer(`guess-${i}`))).status).toBe(401);
    for (const headers of [bearer(JOINING), bearer('guess-5')]) {
      const { status, headers: answered } = await ask('/', headers);
      expect([status, answered['retry-after']]).toEqual([429, '1']);
    }
    expect((await ask(link)).status).toBe(429);
    expect((await ask('/')).status).toBe(401);
    expect((await ask('/', { Cookie: cookie })).status).toBe(200);
    clock.advance(1_000);
    expect((await ask('/', bearer(JOINING))).status).toBe(200);
    expect((await ask('/', bearer('guess-6'))).status).toBe(401);
    clock.advance(1_999);
    expect((await ask('/', bearer(JOINING))).status).toBe(429);
  });

  it('allows changes with the joining token or, if there is none, from this machine', async () => {
    const { ask, bearer } = await serve({ lookingToken: 'looking-token' });
    expect((await ask('/api/x', bearer(JOINING), 'POST')).body).toBe('inside');
    expect((await ask('/api/x', bearer('looking-token'), 'POST')).status).toBe(401);
    const open = await serve({ joiningToken: null, lookingToken: null });
    expect((await open.ask('/api/x', {}, 'POST')).body).toBe('inside');
    const foreign = { Origin: 'http://evil.example' };
    expect((await open.ask('/api/x', foreign, 'POST')).status).toBe(403);
  });
});

describe('refuse()', () => {
  const from = (remoteAddress: string, host: string) =>
    refuse({ headers: { host }, socket: { remoteAddress } } as unknown as IncomingMessage, [
      'train.example.com',
    ])?.status;

  it('checks Host from every address', () => {
    for (const address of ['127.0.0.1', '10.0.0.7', '2001:db8::1']) {
      expect(from(address, 'rebound.evil.example:7700')).toBe(421);
      expect(from(address, 'train.example.com:7700')).toBeUndefined();
      expect(from(address, '10.0.0.1:7700')).toBeUndefined();
    }
  });
});

describe('isFromOwnPage()', () => {
  const ask = (host: string | undefined, origin: string | undefined, isSecure = false) => {
    const socket = isSecure ? new TLSSocket(new Socket()) : new Socket();
    const request = new IncomingMessage(socket);
    Object.assign(request.headers, { host, origin });
    return isFromOwnPage(request, ['run.example.org']);
  };

  it.each([
    ['127.0.0.1:7700', 'http://127.0.0.1:7700', false],
    ['192.168.1.7:7700', 'http://192.168.1.7:7700', false],
    ['[::1]:7700', 'http://[::1]:7700', false],
    ['localhost:7700', 'http://localhost:7700', false],
    ['run.example.org', 'https://run.example.org', true],
  ])('accepts a page of %s', (host, origin, isSecure) => {
    expect(ask(host, origin, isSecure)).toBe(true);
  });

  it.each([
    ['no origin', '127.0.0.1:7700', undefined, false],
    ['a file, or a sandbox', '127.0.0.1:7700', 'null', false],
    ['another site', '127.0.0.1:7700', 'http://evil.example', false],
    ['another port of this machine', '127.0.0.1:7700', 'http://127.0.0.1:7701', false],
    ['the same host without TLS', 'run.example.org', 'http://run.example.org', true],
    ['a rebound name', 'evil.example:7700', 'http://evil.example:7700', false],
    ['no host', undefined, 'http://127.0.0.1:7700', false],
    ['a host with a path', '127.0.0.1:7700/x', 'http://127.0.0.1:7700/x', false],
  ])('refuses %s', (_what, host, origin, isSecure) => {
    expect(ask(host, origin, isSecure)).toBe(false);
  });
});
