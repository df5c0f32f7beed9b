/**
 * Serves a folder to the browser on this machine: a page that imports a module must come over HTTP.
 *
 *   node examples/serve.mjs DIR [PORT]
 */
import { createReadStream } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, sep } from 'node:path';

const [dir = '.', port = '8080'] = process.argv.slice(2);
const root = await realpath(dir);
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
};

const server = createServer(async (request, response) => {
  try {
    const path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    const file = await realpath(join(root, path.endsWith('/') ? `${path}index.html` : path));
    const isWithin = file.startsWith(root + sep) && (await stat(file)).isFile();
    if (!isWithin || request.method !== 'GET') throw new Error('not served');
    const type = TYPES[extname(file)] ?? 'application/octet-stream';
    response.writeHead(200, { 'Content-Type': type });
    createReadStream(file)
      .on('error', () => response.destroy())
      .pipe(response);
  } catch {
    response.writeHead(404).end('Not found\n');
  }
});
server.on('error', (error) => {
  console.error(`Cannot serve: ${error.message}`);
  process.exit(1);
});
server.listen(Number(port), '127.0.0.1', () => {
  console.log(`${dir}: http://127.0.0.1:${server.address().port}/ until Ctrl-C`);
});
