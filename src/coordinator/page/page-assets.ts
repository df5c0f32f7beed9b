/** The page's files, read and compressed once and kept in memory. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';

const TYPES = {
  'index.html': 'text/html; charset=utf-8',
  'compare.html': 'text/html; charset=utf-8',
  'page.js': 'text/javascript; charset=utf-8',
  'compare.js': 'text/javascript; charset=utf-8',
  'page.css': 'text/css; charset=utf-8',
  'favicon.svg': 'image/svg+xml',
  'work.html': 'text/html; charset=utf-8',
  'work.js': 'text/javascript; charset=utf-8',
  'work-thread.js': 'text/javascript; charset=utf-8',
  'work.css': 'text/css; charset=utf-8',
  'simd.wasm': 'application/wasm',
} as const;
export type PageFile = keyof typeof TYPES;

interface Asset {
  readonly type: string;
  readonly bytes: Buffer;
  readonly gzipped: Buffer;
  readonly etag: string;
}

export class PageAssets {
  private readonly directory: URL;
  private readonly assets = new Map<PageFile, Asset>();

  /** @param directory where the build put the page */
  constructor(directory = new URL('./browser/', import.meta.url)) {
    this.directory = directory;
  }

  /** Answers a GET or HEAD. */
  serve(file: PageFile, request: IncomingMessage, response: ServerResponse): void {
    let asset: Asset;
    try {
      asset = this.read(file);
    } catch {
      answerText(response, 503, 'The page is not built: npm run build');
      return;
    }
    const isGzipped = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '');
    const etag = isGzipped ? `"${asset.etag}-gzip"` : `"${asset.etag}"`;
    response.setHeader('ETag', etag);
    response.setHeader('Cache-Control', 'no-cache');
    response.setHeader('Vary', 'Accept-Encoding');
    if (request.headers['if-none-match'] === etag) {
      response.writeHead(304).end();
      return;
    }
    const body = isGzipped ? asset.gzipped : asset.bytes;
    if (isGzipped) response.setHeader('Content-Encoding', 'gzip');
    response.writeHead(200, { 'Content-Type': asset.type, 'Content-Length': body.length });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  private read(file: PageFile): Asset {
    const known = this.assets.get(file);
    if (known) return known;
    const bytes = readFileSync(new URL(file, this.directory));
    const etag = createHash('sha256').update(bytes).digest('base64url').slice(0, 16);
    const asset = { type: TYPES[file], bytes, gzipped: gzipSync(bytes), etag };
    this.assets.set(file, asset);
    return asset;
  }
}

/** A short answer in plain text. */
export function answerText(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Cache-Control': 'no-store',
    // The rest of a request body that is not read must not be taken for the next request.
    ...(status >= 400 && { Connection: 'close' }),
    ...headers,
  });
  response.end(`${text}\n`);
}
