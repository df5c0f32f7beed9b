/**
 * The image's health: asks /healthz where the container serves a run. A worker serves nothing; it is well as long as it
 * runs, and the coordinator sees the rest. It asks itself whether it lives, and tells nothing: whose certificate it is
 * does not matter.
 */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';

const COMMANDS = ['coordinator', 'train', 'worker', 'relay'];
// With `docker run --init` the first process is another, and names the command after its own.
const words = readFileSync('/proc/1/cmdline', 'utf8').split('\0');
const at = words.findIndex((word) => COMMANDS.includes(word));
if (['coordinator', 'train'].includes(words[at])) {
  const given = /\0--port[\0=](\d+)/.exec(words.slice(at).join('\0'));
  const port = given?.[1] ?? process.env.LOCKSTEP_PORT ?? 7700;
  const options = { port, path: '/healthz', rejectUnauthorized: false, timeout: 2_000 };
  // On loopback, or with --insecure, it speaks no TLS.
  const status = await statusOf(https, options).catch(() => statusOf(http, options));
  if (status !== 200) throw new Error(`/healthz answers ${status}`);
}

function statusOf(client, options) {
  return new Promise((resolve, reject) => {
    const request = client.get({ host: '127.0.0.1', ...options }, (answer) => {
      resolve(answer.statusCode);
      answer.resume();
    });
    request.once('timeout', () => request.destroy(new Error('no answer')));
    request.once('error', reject);
  });
}
