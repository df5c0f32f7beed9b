/**
 * Answers connection checks before joining: a description of the run, and bytes for timing transfers. Requires the joining
 * token. See src/shared/link-check.ts.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  LINK_CHECK_PATH,
  MAX_LINK_CHECK_BYTES,
  type LinkDescription,
} from '../../shared/link-check.js';
import type { Gate } from './gate.js';
import { answerText } from './page-assets.js';

const ZEROS = Buffer.alloc(MAX_LINK_CHECK_BYTES);

/** @returns a handler that answers a request if its path is this one, and returns whether it was */
export function createLinkCheck(gate: Pick<Gate, 'mayJoin'>, describe: () => LinkDescription) {
  const answer = (response: ServerResponse) => {
    const body = Buffer.from(JSON.stringify(describe()));
    response.writeHead(200, {
      'Content-Type': 'application/json; charset=utf-8',
      'Cache-Control': 'no-store',
      'Content-Length': body.length,
    });
    response.end(body);
  };

  return (request: IncomingMessage, response: ServerResponse): boolean => {
    const [path, query = ''] = (request.url ?? '').split('?', 2);
    if (path !== LINK_CHECK_PATH) return false;
    if (!gate.mayJoin(request, response)) return true;
    const limit = `at most ${MAX_LINK_CHECK_BYTES} bytes`;
    const bytes = new URLSearchParams(query).get('bytes');
    if (request.method === 'POST') {
      let numBytes = 0;
      request.on('data', (chunk: Buffer) => {
        numBytes += chunk.length;
        if (numBytes <= MAX_LINK_CHECK_BYTES || response.headersSent) return;
        answerText(response, 413, `Expected ${limit}`);
        request.removeAllListeners('data');
      });
      request.once('end', () => {
        if (!response.headersSent) answer(response);
      });
      request.once('error', () => response.destroy());
    } else if (request.method !== 'GET') {
      answerText(response, 405, 'Use GET or POST', { Allow: 'GET, POST' });
    } else if (bytes === null) {
      answer(response);
    } else if (!/^\d{1,8}$/.test(bytes) || Number(bytes) > MAX_LINK_CHECK_BYTES) {
      answerText(response, 400, `Expected bytes=N, ${limit}`);
    } else {
      const headers = { 'Content-Type': 'application/octet-stream', 'Cache-Control': 'no-store' };
      response.writeHead(200, { ...headers, 'Content-Length': bytes });
      response.end(ZEROS.subarray(0, Number(bytes)));
    }
    return true;
  };
}
