/** Sets up a run (directory, data, coordinator, server, observers, local workers) and tears it down. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { Coordinator, type CoordinatorOptions } from '../coordinator/coordinator.js';
import { EVALUATION_BLOCK } from '../coordinator/evaluator.js';
import type { RunResult } from '../coordinator/events.js';
import { MAX_STRANGERS, MORE_PROVING } from '../coordinator/group/reception.js';
import { controlHandler } from '../coordinator/page/control.js';
import { Gate, isSame } from '../coordinator/page/gate.js';
import { createLinkCheck } from '../coordinator/page/link-check.js';
import { isFromOwnPage } from '../coordinator/page/request-guard.js';
import type { WorkPage } from '../coordinator/page/work-page.js';
import { progressOf } from '../coordinator/progress.js';
import {
  newRunPath,
  openRunDirectory,
  type RunDirectory,
} from '../coordinator/run/run-directory.js';
import { readResult } from '../coordinator/run/run-result.js';
import { createSamples, type Samples } from '../coordinator/samples.js';
import { openWorkerKey } from '../coordinator/secrets.js';
import { defaultServerLimits, listen, type CoordinatorServer } from '../coordinator/server.js';
import { readLatestCheckpoint, writeCheckpoint, type Checkpoint } from '../model/checkpoint.js';
import type { Dataset } from '../model/data/dataset.js';
import { loadDataset } from '../model/data/load.js';
import { checkEngine } from '../model/engine/engines.js';
import { createReferenceEngine } from '../model/engine/reference.js';
import { createSimdEngine, createVectorOps } from '../model/engine/simd/node.js';
import { readWeightsFile, type WeightsFile } from '../model/initial-params.js';
import { buildModel } from '../model/lenet.js';
import { Regularizer } from '../model/regularizer.js';
import { systemClock } from '../shared/clock.js';
import { regularizationOf, type RunConfig } from '../shared/config.js';
import { UsageError, UserError, fromUser } from '../shared/errors.js';
import { formatCount } from '../shared/format.js';
import { createLog, type Logger } from '../shared/node/log.js';
import { fileStorage } from '../shared/node/storage.js';
import { version } from '../shared/node/version.js';
import { PROTOCOL_VERSION, longestFrameBytes } from '../shared/protocol.js';
import { createRandom } from '../shared/random.js';
import { joinLine, keepLinks, localJoinLine, openAccess, sayWhere } from './access.js';
import { letHeapGrow, optimizeKernelsSoon } from './v8.js';
import { createJudge } from './judge.js';
import { keepStacksIn } from './last-resort.js';
import { startLocalWorkers, type LocalWorker, type StartedWorkers } from './local-workers.js';
import { randomSeed } from './random-seed.js';
import { resumeCommand } from './resume-command.js';
import { configure, initialParamsOf } from './run-config.js';
import { createObservers } from './run-observers.js';
import { DEFAULT_PORT, type ServeOptions } from './serve-options.js';
import type { RunSettings } from './settings.js';
import { exitCodeOf, isStopSignal, stopSignal } from './signals.js';
import { warn as warnOnStderr } from './warn.js';

/** Starts the workers of a run on other machines. */
export interface Launcher {
  readonly numWorkers: number;
  readonly start: (link: {
    /** What a worker joins, with all secrets. */
    readonly joinLine: string;
    readonly log: Logger;
    /** Once it has aborted, a worker that ends is not started again. */
    readonly stop: AbortSignal;
    /** To be called when no worker can be kept running. */
    readonly gaveUp: (message: string) => void;
  }) => StartedWorkers;
}

/**
 * Serves a run to its end.
 *
 * @param settings the command's, for the configuration
 * @param localWorkers to be run on this machine
 * @param launcher starts workers elsewhere
 * @throws {UserError} if something that the user can mend is in the way, or the training diverged
 */
export async function serveRun(
  settings: RunSettings,
  options: ServeOptions,
  localWorkers: readonly LocalWorker[],
  launcher: Launcher | null = null,
): Promise<void> {
  letHeapGrow();
  optimizeKernelsSoon();
  for (const engine of new Set(localWorkers.map((worker) => worker.engine))) {
    if (engine !== 'auto') await checkEngine(engine);
  }
  const { out, resume } = options;
  const init =
    options.init === null ? null : await readWeightsFile(fileStorage, options.init, warnOnStderr);
  if (resume === true && out === null) {
    throw new UsageError('Cannot resume: which run? Give --resume DIR, or --out DIR --resume');
  }
  // Until here there is nothing to be kept: a signal ends the process at once.
  const stop = stopSignal();
  const directory = await openRunDirectory(
    typeof resume === 'string' ? resume : (out ?? newRunPath()),
    {
      resume: resume === null ? 'never' : resume === true ? 'ifThere' : 'always',
      configure: (stored) => configure(settings, stored, init),
    },
  );
  keepStacksIn(directory.logPath);
  const log = createLog({
    level: options.logLevel,
    quiet: options.quiet,
    file: directory.logPath,
  });
  let hasFailed = false;
  try {
    await serve(directory, options, init, localWorkers, launcher, log, stop);
  } catch (error) {
    // Anything else is a bug, and what it leaves behind shows where.
    hasFailed = error instanceof UserError || isStopSignal(error);
    throw error;
  } finally {
    await log.close();
    if (hasFailed) await directory.discard();
    directory.release();
  }
}

async function serve(
  directory: RunDirectory,
  options: ServeOptions,
  init: WeightsFile | null,
  localWorkers: readonly LocalWorker[],
  launcher: Launcher | null,
  log: Logger,
  stop: AbortSignal,
): Promise<void> {
  const { config, name, checkpointsPath } = directory;
  const warn = (message: string) => log.warn(message);
  let dataset: Dataset;
  try {
    const report = (message: string) => log.info(message);
    dataset = await loadDataset(config.dataset, config, { report, warn, signal: stop });
  } catch (error) {
    if (stop.aborted) log.info('Stopped while reading the dataset');
    throw error;
  }
  const samples = fromUser(() => createSamples(dataset, config.validationSize));
  const model = fromUser(() => buildModel(config.hyperparameters, samples));
  const arbiter = createSimdEngine(model);
  const reference = createReferenceEngine(model);
  const regularizer = new Regularizer(model, regularizationOf(config));
  const judge = createJudge(arbiter, reference, regularizer, options.requireExact);
  const resumeFrom = directory.isResumed
    ? await findResumable(directory, samples, arbiter.fingerprint, warn)
    : null;
  const firstStep = resumeFrom?.globalStep ?? 0;
  const access = await openAccess(directory.path, options, warn);
  const workerKey = await openWorkerKey(join(directory.path, 'worker-key'));
  const allowedHosts = [options.host, ...access.hosts, ...options.allowedHosts];
  const workPage = options.browserWorkers ? await loadWorkPage() : null;
  const gate = new Gate({
    joiningToken: access.token,
    lookingToken: access.lookToken,
    key: workerKey,
    allowedHosts,
    ...(workPage && { publicPaths: workPage.paths }),
    clock: systemClock,
  });
  const coordinatorOptions: CoordinatorOptions = {
    ...options,
    runId: `${name}-${randomBytes(3).toString('hex')}`,
    name,
    config,
    samples,
    clock: systemClock,
    random: createRandom(randomSeed(), 'coordinator'),
    auditRandom: createRandom(randomSeed(), 'audit'),
    workerKey,
    report: (event) => {
      for (const observe of watch.observers) observe(event);
    },
    arbiter,
    vectors: createVectorOps(model.numParams),
    judge,
    isTokenRight: (given) => access.token === null || isSame(given, access.token),
    resumeFrom,
    initialParams: resumeFrom === null ? initialParamsOf(config, model, init) : null,
    save: async (checkpoint, isBest) => {
      // A checkpoint never knows of steps that the metrics lack.
      await watch.flush();
      return writeCheckpoint(fileStorage, checkpointsPath, checkpoint, isBest);
    },
  };
  const coordinator = fromUser(() => new Coordinator(coordinatorOptions));
  const outcome = coordinator.outcome();
  const wasOver = outcome !== 'stopped';
  if (wasOver) {
    await directory.writeResult(coordinator.result());
    log.info(
      `The run in ${directory.path} had already finished, after ${firstStep} steps; ` +
        `it can be continued with ${waysOn(config)[outcome]}`,
    );
    if (!options.keepServing) return;
  }
  const startsWorkers = localWorkers.length > 0 || launcher !== null;
  warnOfIdleWorkers(config, samples.numTrain, launcher?.numWorkers ?? localWorkers.length, log);

  const checkLink = createLinkCheck(gate, () => ({
    version,
    protocolVersion: PROTOCOL_VERSION,
    time: Date.now(),
    numWorkers: coordinator.numWorkers,
    batchSize: config.batchSize,
    microBatch: config.microBatch,
    hyperparameters: config.hyperparameters,
    input: samples.input,
    numClasses: model.numClasses,
  }));
  const failed = new AbortController();
  const gaveUp = (message: string) => failed.abort(new UserError(message));
  const watch = await createObservers(directory, samples, model, options, log, {
    globalStep: firstStep,
    evaluatedStep: coordinator.evaluatedStep,
  });
  const asked = new AbortController();
  const control = controlHandler({
    gate,
    say: (message) =>
      coordinatorOptions.report({
        type: 'notice',
        time: systemClock.now(),
        level: 'info',
        message,
      }),
    controls: {
      get isOn() {
        return isOn && !asked.signal.aborted;
      },
      stop: () => asked.abort(),
      pause: () => coordinator.pause(),
      resume: () => coordinator.resume(),
      save: () => coordinator.save(),
      evict: (name) => coordinator.dismiss(name),
    },
  });
  let isOn = !wasOver;
  let server: CoordinatorServer | null = null;
  let workers: StartedWorkers | null = null;
  try {
    const numSamples = samples.numTrain + samples.numValidation + samples.numTest;
    const longest = longestFrameBytes(model.numParams, numSamples, EVALUATION_BLOCK);
    server = await listenSomewhere(options, localWorkers.length > 0, {
      tls: access.tls,
      longestFrameBytes: longest,
      limits: defaultServerLimits(
        longest,
        MAX_STRANGERS + MORE_PROVING + 2 * options.maxWorkers,
        Math.ceil(model.numParams / (options.sliceValues ?? model.numParams)),
      ),
      clock: systemClock,
      warn,
      accept: (channel, address) => coordinator.accept(channel, address),
      handle: (request, response) =>
        gate.turnsAway(request, response) ||
        checkLink(request, response) ||
        control(request, response) ||
        (workPage?.handle(request, response, gate) ?? false) ||
        watch.handle(request, response),
      ...(workPage && { takesPage: (request) => isFromOwnPage(request, allowedHosts) }),
    });
    const { port } = server;
    await keepLinks(directory.path, access, port);
    const saying = { needsWorkers: !startsWorkers, quiet: options.quiet };
    sayWhere(directory.path, access, port, saying, log);
    const ending = AbortSignal.any([stop, asked.signal]);
    if (workPage) {
      const { sayBrowserLink } = await import('./browser-link.js');
      workPage.link = await sayBrowserLink(directory.path, access, port, options.quiet, log);
    }
    const link = { log, stop: ending, gaveUp };
    if (launcher !== null && !wasOver) {
      const line = joinLine(access, access.hosts[0], port, access.token);
      workers = launcher.start({ ...link, joinLine: line });
    } else if (!wasOver) {
      const { token } = access;
      const line = localJoinLine(access, port);
      workers = startLocalWorkers({ ...link, joinLine: line, token, workers: localWorkers });
    }
    const result = await coordinator.run(AbortSignal.any([ending, failed.signal]));
    isOn = false;
    failed.signal.throwIfAborted();
    await directory.writeResult(result);
    if (result.outcome === 'stopped') {
      const command = resumeCommand(process.argv.slice(2), {
        path: directory.path,
        port: startsWorkers ? null : server.port,
      });
      log.info(`To go on: ${command}`);
      // So that `lockstep train && …` does not go on with a half-trained model.
      process.exitCode = exitCodeOf(stop.reason);
    } else {
      log.info(`Results in ${directory.path}`);
      if (options.keepServing) await keepServing(log, stop);
    }
  } finally {
    await workers?.close();
    await watch.close();
    await server?.close();
  }
}

/**
 * The newest checkpoint that the run can go on from; null for a run that has none yet.
 *
 * @throws {UserError} if there are some and none can be used: to begin anew would throw the run away
 * @throws {UsageError} if the run was over, and its checkpoints are gone
 */
async function findResumable(
  { config, path, checkpointsPath }: RunDirectory,
  samples: Samples,
  fingerprint: string,
  warn: (message: string) => void,
): Promise<Checkpoint | null> {
  let numSkipped = 0;
  const stored = await readLatestCheckpoint(
    fileStorage,
    checkpointsPath,
    (message) => {
      numSkipped++;
      warn(message);
    },
    (checkpoint) => progressOf(checkpoint, config, samples, fingerprint),
  );
  if (stored === null && numSkipped > 0) {
    throw new UserError(
      `Cannot resume: none of the checkpoints in ${checkpointsPath} can be used; ` +
        'remove them to begin the run anew',
    );
  }
  if (stored !== null) return stored.checkpoint;
  const result = await readResult(join(path, 'result.json'), warn);
  if (result !== null && result.outcome !== 'stopped') {
    throw new UsageError(
      `Cannot resume ${path}: the run was over after ${formatCount(result.globalStep)} steps, ` +
        'and its checkpoints are gone; choose another --out to train anew',
    );
  }
  return null;
}

/** The page by which browsers join; a run without them loads nothing of it. */
async function loadWorkPage(): Promise<WorkPage> {
  const { WorkPage: Page } = await import('../coordinator/page/work-page.js');
  return new Page();
}

/** What makes a run go on that was over. */
function waysOn({ epochs }: RunConfig): Record<RunResult['outcome'], string> {
  return {
    finished: `more --epochs than ${epochs}`,
    targetReached: 'a higher --target-accuracy, or none',
    stoppedEarly: 'more --patience, or none',
    stopped: 'nothing else',
  };
}

/** The port asked for; with local workers only, a free one if it is in use and was not asked for. */
async function listenSomewhere(
  options: ServeOptions,
  hasLocalWorkers: boolean,
  rest: Omit<Parameters<typeof listen>[0], 'host' | 'port'>,
): ReturnType<typeof listen> {
  const { host, port } = options;
  if (port !== null || !hasLocalWorkers) {
    return listen({ host, port: port ?? DEFAULT_PORT, ...rest });
  }
  try {
    return await listen({ host, port: DEFAULT_PORT, ...rest });
  } catch (error) {
    const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
    if (cause?.code !== 'EADDRINUSE') throw error;
    return listen({ host, port: 0, ...rest });
  }
}

async function keepServing(log: Logger, stop: AbortSignal): Promise<void> {
  if (stop.aborted) return;
  log.info('The page is served until Ctrl-C');
  await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }));
}

/** Says once, with the cure, that some workers will have nothing to do. */
function warnOfIdleWorkers(
  config: RunConfig,
  numTrain: number,
  numWorkers: number,
  log: Logger,
): void {
  const numUnits = Math.ceil(Math.min(config.batchSize, numTrain) / config.microBatch);
  if (numWorkers <= numUnits) return;
  log.warn(
    `${numWorkers} workers, but a batch has ${numUnits} micro-batches: ${numWorkers - numUnits} will be idle; ` +
      'take a larger --batch-size or a smaller --micro-batch',
  );
}
