/**
 * The page /work, by which any browser becomes a worker (src/browser), and its files. They are static and hold no secret:
 * the token is in the link's fragment, which no browser sends. docs/browser-workers.md
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerText, PageAssets, type PageFile } from './page-assets.js';

const FILES: ReadonlyMap<string, PageFile> = new Map([
  ['/work', 'work.html'],
  ['/work.js', 'work.js'],
  ['/work-thread.js', 'work-thread.js'],
  ['/work.css', 'work.css'],
  ['/simd.wasm', 'simd.wasm'],
  ['/favicon.svg', 'favicon.svg'],
]);

export class WorkPage {
  /** For everybody. */
  readonly paths: ReadonlySet<string> = new Set(FILES.keys());
  private readonly assets = new PageAssets();

  /**
   * Answers a request if its path is one of the page's; returns whether it was. The gate has looked at it, and has set
   * what every answer says.
   */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const file = FILES.get((request.url ?? '').split('?', 1)[0]);
    if (file === undefined) return false;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      answerText(response, 405, 'Use GET or HEAD', { Allow: 'GET, HEAD' });
      return true;
    }
    response.setHeader('Content-Security-Policy', contentPolicy(request.headers.host ?? ''));
    this.assets.serve(file, request, response);
    return true;
  }
}

/** As other pages', and: WebAssembly, a thread from its one address, a WebSocket to here, which old Safaris want named. */
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
