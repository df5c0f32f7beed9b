/**
 * The image's health: asks /healthz where the container serves a run. A worker serves nothing; it is well as long as it
 * runs, and the coordinator sees the rest.
 */
import { readFileSync } from 'node:fs';

const [, , command, ...args] = readFileSync('/proc/1/cmdline', 'utf8').split('\0');
if (['coordinator', 'train'].includes(command)) {
  const given = args.indexOf('--port');
  const port = given < 0 ? (process.env.LOCKSTEP_PORT ?? 7700) : args[given + 1];
  const answer = await fetch(`http://127.0.0.1:${port}/healthz`, {
    signal: AbortSignal.timeout(4_000),
  });
  if (!answer.ok) throw new Error(`/healthz answers ${answer.status}`);
}
