/**
 * What TLS costs: the same short training with two local workers, without TLS (on loopback) and with it (off loopback, as
 * `--host 0.0.0.0` makes it), in turn.
 *
 *   node scripts/bench-tls.mjs [--rounds 3] [--epochs 4] [--batch-size 128]
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    epochs: { type: 'string', default: '4' },
    'batch-size': { type: 'string', default: '128' },
  },
});
const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'lockstep-tls-'));

/** @returns the result of a training */
function train(name, ...flags) {
  const out = join(folder, name);
  const size = ['--epochs', values.epochs, '--batch-size', values['batch-size']];
  const args = ['train', '--out', out, '--workers', '2', '--quiet', ...size, ...flags];
  execFileSync(process.execPath, [main, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  return JSON.parse(readFileSync(join(out, 'result.json'), 'utf8'));
}

try {
  const ratios = [];
  for (let round = 1; round <= Number(values.rounds); round++) {
    const plain = train(`plain-${round}`);
    const tls = train(`tls-${round}`, '--host', '0.0.0.0');
    if (plain.weightsSha256 !== tls.weightsSha256) throw new Error('The weights differ');
    ratios.push(tls.imagesPerSecond / plain.imagesPerSecond);
    const [without, having] = [plain, tls].map((result) => Math.round(result.imagesPerSecond));
    console.log(
      `images/s: ${without} without TLS, ${having} with it, ratio ${ratios.at(-1).toFixed(3)}`,
    );
  }
  ratios.sort((a, b) => a - b);
  console.log(`Ratio, median of ${ratios.length}: ${ratios[ratios.length >> 1].toFixed(3)}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
