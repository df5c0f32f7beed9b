/** The files of the page, read once and kept in memory, compressed once. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';

const FILES = {
  '/': { file: 'index.html', type: 'text/html; charset=utf-8' },
  '/compare': { file: 'compare.html', type: 'text/html; charset=utf-8' },
  '/page.js': { file: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/compare.js': { file: 'compare.js', type: 'text/javascript; charset=utf-8' },
  '/page.css': { file: 'page.css', type: 'text/css; charset=utf-8' },
  '/favicon.svg': { file: 'favicon.svg', type: 'image/svg+xml' },
} as const;
export type AssetPath = keyof typeof FILES;

interface Asset {
  readonly type: string;
  readonly bytes: Buffer;
  readonly gzipped: Buffer;
  readonly etag: string;
}

export class PageAssets {
  private readonly directory: URL;
  private readonly assets = new Map<AssetPath, Asset>();

  /** @param directory where the build put the page */
  constructor(directory = new URL('./page/', import.meta.url)) {
    this.directory = directory;
  }

  isAsset(path: string): path is AssetPath {
    return Object.hasOwn(FILES, path);
  }

  /** Answers a GET or HEAD. */
  serve(path: AssetPath, request: IncomingMessage, response: ServerResponse): void {
    let asset: Asset;
    try {
      asset = this.read(path);
    } catch {
      response.writeHead(503, { 'Content-Type': 'text/plain; charset=utf-8' });
      response.end('The page is not built: npm run build\n');
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

  private read(path: AssetPath): Asset {
    const known = this.assets.get(path);
    if (known) return known;
    const { file, type } = FILES[path];
    const bytes = readFileSync(new URL(file, this.directory));
    const etag = createHash('sha256').update(bytes).digest('base64url').slice(0, 16);
    const asset = { type, bytes, gzipped: gzipSync(bytes), etag };
    this.assets.set(path, asset);
    return asset;
  }
}
