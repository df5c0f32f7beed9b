/** The page /work: explains what it will do and, on one click, makes each of this device's cores a worker of the run. */
import { encode } from 'uqr';
import { byId, element, setText } from '../coordinator/page/browser/element.js';
import { formatInteger, formatPercent } from '../coordinator/page/browser/format.js';
import { setUpTheme } from '../coordinator/page/browser/theme.js';
import type { WorkerOutcome } from '../worker/worker.js';
import { Crew } from './crew.js';
import { browserName, memoryBudgetBytes, preflight } from './preflight.js';
import { ScreenLock } from './screen-lock.js';
import { forget, recall, remember, type TabMemory } from './tab-memory.js';

const MAX_CORES = 64;
const numCores = Math.min(navigator.hardwareConcurrency || 1, MAX_CORES);

const offer = byId('offer');
const working = byId('working');
const nameField = byId('name', HTMLInputElement);
const coresField = byId('cores', HTMLInputElement);
const joinButton = byId('join', HTMLButtonElement);
const screenLock = new ScreenLock((sentence) => setText(byId('wake'), sentence));
let crew: Crew | null = null;
let policy: { createScriptURL(url: string): string } | null = null;

const checks = preflight();
const canWork = checks.every(({ isMet }) => isMet);
/** Fetched before the click, so that nobody waits after it. */
const kernels = canWork ? compileKernels() : null;

setUpTheme(() => undefined);
showOffer();
const before = recall(MAX_CORES);
// It worked when it was loaded again, or thrown out of memory: it goes on, as the same workers.
if (before && canWork) void join(before);

byId('form').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = nameField.value.trim() || defaultName();
  void join({ name, identities: new Array<null>(Number(coresField.value)).fill(null) });
});
byId('leave').addEventListener('click', () => {
  forget();
  crew?.leave();
  setState('Leaving …', '');
});
document.addEventListener('visibilitychange', () => crew?.see(document.hidden));

function showOffer(): void {
  setText(byId('host'), location.host);
  nameField.value ||= defaultName();
  coresField.max = String(numCores);
  // Half of them: phones get hot, and people want to go on with what they do.
  coresField.value = String(Math.ceil(numCores / 2));
  const showCores = () => setText(byId('cores-shown'), `${coresField.value} of ${numCores}`);
  coresField.addEventListener('input', showCores);
  showCores();
  for (const { name, isMet, note } of checks) {
    const text = isMet ? name : `${name} is missing: ${note}`;
    byId('checks').append(element('li', isMet ? {} : { class: 'is-missing' }, text));
  }
  if (!isSecureContext) {
    const plain = 'Plain http: anyone on this network can read what is sent.';
    byId('checks').append(element('li', { class: 'is-note' }, plain));
  }
  joinButton.disabled = !canWork;
  setState(canWork ? 'Not joined' : 'Cannot join', canWork ? '' : 'bad');
  const isLocal = /^(localhost|127\..*|\[::1\])$/.test(location.hostname);
  byId('invite').hidden = isLocal;
  if (!isLocal) byId('code').append(codeOf(location.href));
}

async function join(memory: TabMemory): Promise<void> {
  if (crew || !kernels) return;
  joinButton.disabled = true;
  setState('Joining …', '');
  let compiled: WebAssembly.Module;
  try {
    compiled = await kernels;
  } catch (error) {
    showVerdict(`The kernels cannot be loaded (${String(error)}); reload the page`, true);
    joinButton.disabled = false;
    return;
  }
  const identities = [...memory.identities];
  remember(memory);
  crew = new Crew({
    url: `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}/`,
    token: tokenOf(location.hash),
    kernels: compiled,
    name: memory.name,
    host: browserName(),
    maxMemoryBytes: memoryBudgetBytes(),
    identities,
    createThread,
    changed: () => show(),
    remember: (place, identity) => {
      identities[place] = identity;
      // Not once it has left.
      if (crew && !crew.isOver) remember({ name: memory.name, identities });
    },
  });
  screenLock.acquire();
  byId('cores-list').replaceChildren(
    ...crew.cores.map(({ name }) =>
      element(
        'li',
        {},
        element('span', { class: 'dot', 'aria-hidden': 'true' }),
        element('span', {}, name),
        element('span', { class: 'quiet core-images' }),
        element('small', { class: 'core-said' }),
      ),
    ),
  );
  offer.hidden = true;
  working.hidden = false;
  byId('leave').hidden = false;
  show();
}

function show(): void {
  if (!crew) return;
  const { cores } = crew;
  const { numImages, pace, run } = crew.sum();
  setText(byId('figure-images'), formatInteger(numImages));
  setText(byId('figure-share'), pace ? formatPercent(pace.share, 0) : '–');
  setText(byId('figure-speed'), pace ? formatInteger(pace.imagesPerSecond) : '–');
  const accuracy = run?.testAccuracy ?? null;
  setText(byId('figure-accuracy'), accuracy === null ? '–' : formatPercent(accuracy));
  if (run) {
    const { globalStep, totalSteps } = run;
    setText(byId('figure-step'), `${formatInteger(globalStep)} of ${formatInteger(totalSteps)}`);
    const bar = byId('progress');
    bar.style.setProperty('--done', String(globalStep / Math.max(1, totalSteps)));
    bar.setAttribute(
      'aria-valuenow',
      String(Math.floor((100 * globalStep) / Math.max(1, totalSteps))),
    );
  }
  cores.forEach(({ trouble, moments, outcome }, place) => {
    const row = byId('cores-list').children[place] as HTMLElement;
    row.dataset.state = outcome ? 'left' : trouble ? 'waiting' : 'here';
    const done = moments.at(-1)?.progress.numImages ?? 0;
    setText(row.querySelector('.core-images')!, `${formatInteger(done)} images`);
    // An end that is no trouble is the same for all, and is said once.
    const isWell = outcome?.outcome === 'left' || outcome?.outcome === 'finished';
    const said = outcome && !isWell ? sentenceOf(outcome) : trouble;
    setText(row.querySelector('.core-said')!, said);
  });
  if (crew.isOver) {
    end(cores.map(({ outcome }) => outcome!));
    return;
  }
  const atWork = cores.filter(({ outcome, trouble }) => !outcome && !trouble).length;
  if (atWork === cores.length) setState('Working', 'good');
  else if (atWork > 0) setState(`${atWork} of ${cores.length} cores work`, 'good');
  else setState('Waiting for the run', 'warn');
}

/** All threads have ended: the page is as it was before the click, with a word on why. */
function end(outcomes: readonly WorkerOutcome[]): void {
  crew = null;
  forget();
  screenLock.release();
  const isBad = outcomes.some(({ outcome }) => outcome === 'refused' || outcome === 'unable');
  const [first] = outcomes;
  const last = outcomes.find(({ outcome }) => outcome === 'finished') ?? first;
  setState(
    isBad ? 'Not joined' : last.outcome === 'finished' ? 'Finished' : 'Left',
    isBad ? 'bad' : 'done',
  );
  showVerdict(sentenceOf(isBad ? (outcomes.find((o) => 'reason' in o) ?? first) : last), isBad);
  offer.hidden = false;
  working.hidden = last.outcome !== 'finished' && last.outcome !== 'left';
  byId('leave').hidden = true;
  joinButton.disabled = false;
}

function sentenceOf(outcome: WorkerOutcome): string {
  switch (outcome.outcome) {
    case 'finished':
      return `The run is over: ${outcome.reason}`;
    case 'left':
      return 'You have left the run; it continues without this device';
    case 'refused':
      return `Refused by the coordinator: ${outcome.reason}; open the whole link, including everything after the #`;
    case 'unable':
    case 'gaveUp':
      return outcome.reason;
  }
}

function showVerdict(sentence: string, isBad: boolean): void {
  const verdict = byId('verdict');
  setText(verdict, sentence);
  verdict.classList.toggle('is-bad', isBad);
}

function setState(text: string, kind: string): void {
  const state = byId('state');
  setText(state, text);
  state.dataset.kind = kind;
}

function defaultName(): string {
  return browserName().replace(/ \d+/, '');
}

/** The secret of the link: what follows `#` is never sent in a URL. */
function tokenOf(hash: string): string | null {
  try {
    return decodeURIComponent(hash.slice(1)) || null;
  } catch {
    return hash.slice(1);
  }
}

function compileKernels(): Promise<WebAssembly.Module> {
  const compiling = WebAssembly.compileStreaming(fetch('simd.wasm'));
  // Who clicks is told.
  compiling.catch(() => undefined);
  return compiling;
}

/** Under `require-trusted-types-for`, where a browser has that, a script's address needs a policy. */
function createThread(): Worker {
  const { trustedTypes } = window as {
    trustedTypes?: {
      createPolicy(
        name: string,
        rules: { createScriptURL: (url: string) => string },
      ): { createScriptURL(url: string): string };
    };
  };
  policy ??=
    trustedTypes?.createPolicy('lockstep-work', {
      createScriptURL: () => 'work-thread.js',
    }) ?? null;
  return new Worker(policy?.createScriptURL('') ?? 'work-thread.js');
}
/** A QR code. */
function codeOf(text: string): SVGElement {
  const { data, size } = encode(text, { border: 2 });
  const squares = data.flatMap((row, y) =>
    row.map((isDark, x) => (isDark ? `M${x} ${y}h1v1h-1z` : '')),
  );
  const namespace = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(namespace, 'svg');
  svg.setAttribute('viewBox', `0 0 ${size} ${size}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', 'QR code of the link of this page');
  const path = document.createElementNS(namespace, 'path');
  path.setAttribute('d', squares.join(''));
  path.setAttribute('fill', 'currentColor');
  svg.append(path);
  return svg;
}
