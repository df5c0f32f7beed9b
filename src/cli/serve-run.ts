/**
 * Puts a run together: data, engine, coordinator, server, observers, local workers; and takes it apart again.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { createConsoleObserver } from '../coordinator/monitor/console-observer.js';
import { createMetricsFile } from '../coordinator/monitor/metrics-file.js';
import { createMonitor } from '../coordinator/monitor/monitor.js';
import { Coordinator } from '../coordinator/coordinator.js';
import type { Observer, RunResult } from '../coordinator/events.js';
import { createSamples } from '../coordinator/samples.js';
import { listen } from '../coordinator/server.js';
import { readLatestCheckpoint, writeCheckpoint } from '../model/checkpoint.js';
import { loadDataset } from '../model/idx.js';
import { buildModel } from '../model/lenet.js';
import { SimdEngine } from '../model/simd-engine.js';
import { systemClock } from '../shared/clock.js';
import { parseRunConfig, type RunConfig } from '../shared/config.js';
import { UserError } from '../shared/errors.js';
import { createLog, type Logger } from '../shared/log.js';
import { createRandom } from '../shared/random.js';
import { fileStorage } from '../shared/storage.js';
import { startLocalWorkers } from './local-workers.js';
import { flatten, givenValues, runConfigOf, type FlagValues } from './run-options.js';
import type { ServeOptions } from './serve-options.js';
import { stopSignal } from './signals.js';

/**
 * Serves a run to its end.
 *
 * @param values the command's, for the configuration
 * @param engines of the local workers, one an entry
 * @throws {UserError} if something that the user can mend is in the way, or the training diverged
 */
export async function serveRun(
  values: FlagValues,
  options: ServeOptions,
  engines: readonly string[],
): Promise<void> {
  const stop = stopSignal();
  const { dir, config, isResumed } = await openRun(values, options);
  const log = createLog({
    level: options.logLevel,
    quiet: options.quiet,
    file: join(dir, 'log.jsonl'),
  });
  try {
    await serve({ dir, config, isResumed, options, engines, log, stop });
  } finally {
    await log.close();
  }
}

interface Serving {
  readonly dir: string;
  readonly config: RunConfig;
  readonly isResumed: boolean;
  readonly options: ServeOptions;
  readonly engines: readonly string[];
  readonly log: Logger;
  readonly stop: AbortSignal;
}

async function serve(serving: Serving): Promise<void> {
  const { dir, config, isResumed, options, engines, log, stop } = serving;
  const model = buildModel(config.hyperparameters);
  const dataset = await loadDataset(config.dataset);
  const samples = createSamples(dataset.train, dataset.test, config.validationSize);
  const arbiter = new SimdEngine(model);
  const checkpoints = join(dir, 'checkpoints');
  const stored = isResumed
    ? await readLatestCheckpoint(fileStorage, checkpoints, (message) => log.warn(message))
    : null;
  const resumeFrom = stored?.checkpoint ?? null;
  checkWorkerCount(config, samples.numTrain, engines.length, log);

  const predictor = new SimdEngine(model, { numGradients: 0 });
  const monitor = createMonitor({
    predict: (image) => predictor.predict(image),
    setParams: (params) => predictor.setParams(params),
  });
  const metrics = await createMetricsFile(join(dir, 'metrics.jsonl'), {
    warn: (message) => log.warn(message),
    ...(resumeFrom ? { truncateToStep: resumeFrom.globalStep } : {}),
  });
  const observers: Observer[] = [
    metrics.observe,
    monitor.observe,
    createConsoleObserver({ log, logEvery: options.logEvery }),
  ];

  const failure = new AbortController();
  let failureMessage = '';
  const coordinator = new Coordinator({
    ...options,
    runId: `${basename(dir)}-${randomBytes(3).toString('hex')}`,
    name: basename(dir),
    config,
    samples,
    clock: systemClock,
    random: createRandom(randomBytes(4).readUInt32LE(), 'coordinator'),
    report: (event) => {
      for (const observe of observers) observe(event);
    },
    arbiter,
    audit: options.audit,
    judge: () => ({ isAccepted: true, isExact: true }),
    isTokenRight: tokenCheck(options.token),
    resumeFrom,
    save: async (checkpoint, isBest) => {
      await metrics.flush();
      return writeCheckpoint(fileStorage, checkpoints, checkpoint, isBest);
    },
  });
  const server = await listen({
    ...options,
    numParams: model.numParams,
    accept: (channel, address) => coordinator.accept(channel, address),
    handle: (request, response) => monitor.handle(request, response),
  });
  const urlHost = options.host === '0.0.0.0' || options.host === '::' ? hostname() : options.host;
  log.info(`Live page: http://${urlHost}:${server.port}/`);
  if (engines.length === 0) {
    const token = options.token === null ? '' : ` --token ${options.token}`;
    log.info(`On each worker machine: npx lockstep worker ws://${urlHost}:${server.port}${token}`);
  }
  const workers = startLocalWorkers({
    url: `ws://${options.host === '0.0.0.0' ? '127.0.0.1' : options.host}:${server.port}`,
    token: options.token,
    engines,
    log,
    gaveUp: (message) => {
      failureMessage = message;
      failure.abort();
    },
  });

  let result: RunResult;
  try {
    result = await coordinator.run(AbortSignal.any([stop, failure.signal]));
    if (failure.signal.aborted) throw new UserError(failureMessage);
    await writeAtomically(join(dir, 'result.json'), `${JSON.stringify(result, null, 2)}\n`);
    if (result.outcome === 'stopped') {
      log.info(
        `Stopped at step ${result.globalStep}; to go on: npx lockstep ${
          engines.length > 0 ? `train --workers ${engines.length}` : 'coordinator'
        } --resume ${dir}`,
      );
    } else {
      log.info(`Results in ${dir}`);
      if (options.keepServing && !stop.aborted) {
        log.info('The page stays until Ctrl-C');
        await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }));
      }
    }
  } finally {
    await workers.close();
    monitor.close();
    await server.close();
    await metrics.close();
  }
}

/** Finds or makes the run directory, and the configuration that counts. */
async function openRun(
  values: FlagValues,
  options: ServeOptions,
): Promise<{ dir: string; config: RunConfig; isResumed: boolean }> {
  const { out, resume } = options;
  if (resume === true && out === null) {
    throw new UserError('Cannot resume: which run? Give --resume DIR, or --out DIR --resume');
  }
  const dir = resume === true || resume === null ? (out ?? newRunDirectory()) : resume;
  const configPath = join(dir, 'config.json');
  const text = await readFile(configPath, 'utf8').catch(() => null);
  if (text !== null) {
    if (resume === null) {
      throw new UserError(
        `Cannot start in ${dir}: it holds a run; add --resume to go on with it, or take another --out`,
      );
    }
    const config = parseRunConfig(JSON.parse(text));
    checkSame(givenValues(values), config, dir);
    return { dir, config, isResumed: true };
  }
  const config = runConfigOf(values);
  buildModel(config.hyperparameters);
  await mkdir(dir, { recursive: true });
  await writeAtomically(configPath, `${JSON.stringify(config, null, 2)}\n`);
  return { dir, config, isResumed: false };
}

/** @throws {UserError} if an option was given that is not that of the run */
function checkSame(given: Record<string, unknown>, config: RunConfig, dir: string): void {
  const stored = flatten(config);
  for (const [key, value] of Object.entries(given)) {
    if (JSON.stringify(value) === JSON.stringify(stored[key])) continue;
    throw new UserError(
      `Cannot resume ${dir} with ${key} ${JSON.stringify(value)}: the run has ${JSON.stringify(stored[key])}`,
    );
  }
}

function newRunDirectory(): string {
  const now = new Date().toISOString().slice(0, 19).replace('T', '-').replaceAll(':', '');
  return join('runs', `${now}-${randomBytes(2).toString('hex')}`);
}

/** Says once, with the cure, that some workers will have nothing to do. */
function checkWorkerCount(
  config: RunConfig,
  numTrain: number,
  numWorkers: number,
  log: Logger,
): void {
  const numUnits = Math.ceil(Math.min(config.batchSize, numTrain) / config.microBatch);
  if (numWorkers <= numUnits) return;
  log.warn(
    `${numWorkers} workers, but a batch has ${numUnits} micro-batches: ${numWorkers - numUnits} will be idle; ` +
      `take a larger --batch-size or a smaller --micro-batch`,
  );
}

/** Compares digests, in constant time: neither the token nor its length shows. */
function tokenCheck(token: string | null): (given: string | null) => boolean {
  if (token === null) return () => true;
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const expected = digest(token);
  return (given) => given !== null && timingSafeEqual(digest(given), expected);
}

async function writeAtomically(path: string, text: string): Promise<void> {
  await writeFile(`${path}.partial`, text);
  await rename(`${path}.partial`, path);
}
