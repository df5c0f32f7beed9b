/**
 * `npm run attack`: strangers, workers that break the protocol and a network that changes what passes, against real
 * processes; the run must not show it.
 *
 *   npm run attack -- --seed 7 --seconds 600
 *
 * The run has two epochs for each second of the attack; give --epochs where it is over before. --frames N ends the attack
 * before its time, once so many have been sent.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeSmallMnist } from '../small-mnist.js';
import { runAttack } from './attack.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '60' },
    epochs: { type: 'string' },
    frames: { type: 'string' },
  },
});
const seconds = Number(values.seconds);
const folder = mkdtempSync(join(tmpdir(), 'lockstep-attack-'));
try {
  const dataset = join(folder, 'mnist');
  await writeSmallMnist(dataset, 2_000, 300);
  const report = await runAttack({
    seed: Number(values.seed),
    durationMs: 1000 * seconds,
    maxFrames: Number(values.frames ?? Infinity),
    flags: ['--dataset', dataset, '--epochs', values.epochs ?? String(Math.ceil(2 * seconds))],
    folder,
    log: (line) => console.log(line),
  });
  const [undisturbed, attacked] = report.seconds.map((time) => time.toFixed(1));
  console.log(`
${report.numFrames} frames over ${report.numConnections} connections; changed: ${report.types.join(', ')}
Coordinator: ${report.residentMb.join(' → ')} MB at most, ${report.mostDescriptors} descriptors
Blocked at worst: ${report.blockedMs.map((ms) => `${ms.toFixed(0)} ms`).join(', ')}
/healthz at worst: ${report.slowestHealthMs.toFixed(0)} ms
Seconds undisturbed ${undisturbed}, under attack ${attacked}
Weights undisturbed  ${report.weights[0]}
        attacked     ${report.weights[1]}`);
  report.violations.forEach((violation) => console.log(`Violation: ${violation}`));
  console.log(report.violations.length === 0 ? '\nEvery promise was kept' : '\nNot kept');
  process.exitCode = report.violations.length === 0 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
