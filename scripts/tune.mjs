/**
 * How the defaults were chosen: the accuracy on 10,000 training images that were held out, of the default training and of
 * trainings that differ from it in one thing; mean and least of some seeds. The test images take no part.
 *
 *   npm run build && node scripts/tune.mjs [--seeds 3] [--workers 2]
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
    seeds: { type: 'string', default: '3' },
    workers: { type: 'string', default: '2' },
  },
});
const TRAININGS = [
  '',
  '--epochs 12',
  '--epochs 30',
  '--lr 0.004',
  '--lr 0.009',
  '--weight-decay 0',
  '--weight-decay 0.05',
  '--batch-size 128 --lr 0.008',
  '--optimizer momentum --lr 0.1',
];
const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'lockstep-tune-'));

/** Accuracy on the held-out images after the last epoch. */
function validate(flags, seed) {
  const out = join(folder, 'run');
  execFileSync(
    process.execPath,
    [
      ...[main, 'train', '--quiet', '--out', out, '--workers', values.workers, '--port', '0'],
      ...['--validation-size', '10000', '--seed', String(seed)],
      ...flags.split(' ').filter(Boolean),
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const evaluations = readFileSync(join(out, 'metrics.jsonl'), 'utf8')
    .split('\n')
    .filter((line) => line.includes('"validation"'))
    .map((line) => JSON.parse(line));
  rmSync(out, { recursive: true });
  return evaluations.at(-1).accuracy;
}

try {
  const percent = (share) => `${(100 * share).toFixed(2)} %`;
  console.log('  mean     least    differs from the default in');
  for (const flags of TRAININGS) {
    const accuracies = Array.from({ length: Number(values.seeds) }, (_, i) =>
      validate(flags, i + 1),
    );
    const mean = accuracies.reduce((sum, accuracy) => sum + accuracy, 0) / accuracies.length;
    console.log(`${percent(mean)}  ${percent(Math.min(...accuracies))}  ${flags || 'nothing'}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
