/**
 * The page /work, which makes any browser a worker (src/browser), and its files. They are static and contain no secret:
 * the token is in the link's fragment, which no browser sends. docs/browser-workers.md
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { renderSVG } from 'uqr';
import type { Gate } from './gate.js';
import { answerText, PageAssets, type PageFile } from './page-assets.js';

const FILES: ReadonlyMap<string, PageFile> = new Map([
  ['/work', 'work.html'],
  ['/work.js', 'work.js'],
  ['/work-thread.js', 'work-thread.js'],
  ['/work.css', 'work.css'],
  ['/simd.wasm', 'simd.wasm'],
  ['/favicon.svg', 'favicon.svg'],
]);

/**
 * Answers `{ link, code }`: the link for browser workers, and its QR code as SVG. The link contains the joining token, so
 * the looking token is not enough.
 */
const LINK_PATH = '/api/work-link';

export class WorkPage {
  /** Served without a token. */
  readonly paths: ReadonlySet<string> = new Set(FILES.keys());
  /** The link for browser workers; null before the port is known. */
  link: string | null = null;
  private readonly assets = new PageAssets();

  /**
   * Answers a request if its path is one of the page's. The gate has checked it and set the security headers.
   *
   * @returns whether the path was one of the page's
   */
  handle(request: IncomingMessage, response: ServerResponse, gate: Pick<Gate, 'mayJoin'>): boolean {
    const path = (request.url ?? '').split('?', 1)[0];
    const file = FILES.get(path);
    if (file === undefined && path !== LINK_PATH) return false;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      answerText(response, 405, 'Use GET or HEAD', { Allow: 'GET, HEAD' });
      return true;
    }
    if (file === undefined) {
      if (gate.mayJoin(request, response)) this.tellLink(response);
      return true;
    }
    response.setHeader('Content-Security-Policy', contentPolicy(request.headers.host ?? ''));
    this.assets.serve(file, request, response);
    return true;
  }

  private tellLink(response: ServerResponse): void {
    const { link } = this;
    if (link === null) {
      answerText(response, 503, 'The run is about to start');
      return;
    }
    response.writeHead(200, {
      'Content-Type': 'application/json; charset=utf-8',
      'Cache-Control': 'no-store',
    });
    response.end(JSON.stringify({ link, code: renderSVG(link, { border: 2 }) }));
  }
}

/** Also allows WebAssembly, the worker thread, and a WebSocket to this host, which old Safari versions need spelled out. */
function contentPolicy(host: string): string {
  const here = /^[\w.:[\]-]{1,300}$/.test(host) ? ` ws://${host} wss://${host}` : '';
  return [
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "worker-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    `connect-src 'self'${here}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    'trusted-types lockstep-work',
  ].join('; ');
}
