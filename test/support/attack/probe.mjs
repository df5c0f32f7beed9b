/**
 * Loaded into a process before its program (`--import`): answers who started it how long its event loop was blocked at
 * worst, for how long it ran and waited for a processor, and how much memory and how many descriptors it has.
 *
 * The longest block is counted in processor time, so that a busy machine does not count.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread } from 'node:worker_threads';

const EVERY_MS = 20;

if (process.send && isMainThread) {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  let blockedMs = 0;
  let [wall, cpu] = [performance.now(), process.cpuUsage()];
  const restart = () => ([wall, cpu] = [performance.now(), process.cpuUsage()]);
  setInterval(() => {
    const { user, system } = process.cpuUsage(cpu);
    const ms = Math.min(performance.now() - wall - EVERY_MS, (user + system) / 1000);
    blockedMs = Math.max(blockedMs, ms);
    restart();
  }, EVERY_MS).unref();
  process.on('message', ({ isSettled }) => {
    // Of the main thread, ns.
    const [ranNs, waitedNs] = readFileSync('/proc/self/schedstat', 'utf8').split(' ');
    const longestMs = blockedMs;
    if (isSettled) {
      // Twice: what the first one finalizes is free after the second.
      collect();
      collect();
      blockedMs = 0;
      restart();
    }
    process.send({
      blockedMs: longestMs,
      ranMs: ranNs / 1e6,
      waitedMs: waitedNs / 1e6,
      residentMb: process.memoryUsage.rss() / 1e6,
      numDescriptors: readdirSync('/proc/self/fd').length,
    });
  });
  process.channel.unref();
}
