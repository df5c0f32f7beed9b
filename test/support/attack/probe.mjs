/**
 * Loaded into a process before its program (`--import`): writes to the file named in ATTACK_PROBE for how long the event
 * loop was blocked at worst, ms of processor time, so that a busy machine does not count.
 */
import { writeFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const EVERY_MS = 20;
/** Loading and compiling are no one's attack. */
const WARM_UP_MS = 5_000;

const path = process.env.ATTACK_PROBE;
if (path !== undefined && isMainThread) {
  let worstMs = 0;
  let [wall, cpu] = [performance.now(), process.cpuUsage()];
  setInterval(() => {
    const now = performance.now();
    const used = process.cpuUsage(cpu);
    const blockedMs = Math.min(now - wall - EVERY_MS, (used.user + used.system) / 1000);
    [wall, cpu] = [now, process.cpuUsage()];
    if (now < WARM_UP_MS || blockedMs <= worstMs) return;
    worstMs = blockedMs;
    writeFileSync(path, String(worstMs));
  }, EVERY_MS).unref();
}
