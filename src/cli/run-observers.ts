/** What watches a run: files, console, page. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Observer } from '../coordinator/events.js';
import { createConsoleObserver } from '../coordinator/observers/console.js';
import { createCriticalPath } from '../coordinator/observers/critical-path.js';
import { createMetricsFile } from '../coordinator/observers/metrics-file.js';
import { createPrometheus } from '../coordinator/observers/prometheus.js';
import { createTensorBoard } from '../coordinator/observers/tensorboard.js';
import { canShowStatus, createTerminalStatus } from '../coordinator/observers/terminal-status.js';
import { createTrace } from '../coordinator/observers/trace.js';
import { createDownloads } from '../coordinator/page/downloads.js';
import { createMonitor } from '../coordinator/page/monitor.js';
import type { RunDirectory } from '../coordinator/run/run-directory.js';
import { replayMetrics } from '../coordinator/run/stored-run.js';
import type { Samples } from '../coordinator/samples.js';
import { createSimdEngine } from '../model/engine/simd/node.js';
import type { Model } from '../model/lenet.js';
import type { Logger } from '../shared/node/log.js';
import type { ServeOptions } from './serve-options.js';

/** @param at the next step of the run, and the last that was evaluated */
export async function createObservers(
  directory: RunDirectory,
  samples: Samples,
  model: Model,
  options: ServeOptions,
  log: Logger,
  at: { readonly globalStep: number; readonly evaluatedStep: number },
) {
  const warn = (message: string) => log.warn(message);
  const predictor = createSimdEngine(model, { numGradients: 0 });
  const monitor = createMonitor({
    predict: (images) => predictor.predict(images),
    setParams: (params) => predictor.setParams(params),
    takesBrowsers: options.browserWorkers,
  });
  const downloads = createDownloads(directory.checkpointsPath, directory.name);
  const metrics = await createMetricsFile(directory.metricsPath, {
    warn,
    ...(directory.isResumed && { resumeAt: at }),
  });
  if (directory.isResumed) {
    // The page shows the whole run, not only what this process did.
    const { metricsPath, name, config } = directory;
    if (!(await replayMetrics(metricsPath, name, config, samples, monitor.observe))) {
      warn(
        `The page shows the run from here on: ${metricsPath} is too large to be read at a start`,
      );
    }
  }
  const tensorBoard = createTensorBoard(directory.tensorboardPath, { warn });
  const prometheus = createPrometheus();
  const criticalPath = createCriticalPath();
  const trace = options.trace ? createTrace(directory.tracePath(at.globalStep), { warn }) : null;
  const status =
    options.progress && !options.quiet && canShowStatus(process.stdout)
      ? createTerminalStatus({ log, stream: process.stdout })
      : null;
  const observers: Observer[] = [
    metrics.observe,
    monitor.observe,
    tensorBoard.observe,
    prometheus.observe,
    criticalPath.observe,
    createConsoleObserver({
      log,
      logEvery: options.logEvery,
      timeSummary: () => criticalPath.summary(),
    }),
  ];
  if (trace) observers.push(trace.observe);
  if (status) observers.push(status.observe);
  return {
    observers,
    handle: (request: IncomingMessage, response: ServerResponse) =>
      monitor.handle(request, response) ||
      downloads.handle(request, response) ||
      prometheus.handle(request, response),
    flush: () => metrics.flush(),
    async close() {
      status?.close();
      monitor.close();
      await Promise.all([metrics.close(), tensorBoard.close(), trace?.close()]);
    },
  };
}
