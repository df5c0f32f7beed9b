/**
 * The live page of a run: keeps its history and serves it to browsers, on the coordinator's own port. Everything it knows
 * comes through `observe`; every request is bounded and checked before it is answered. Requests pass the gate (gate.ts)
 * first.
 *
 *   GET  /             the page, with /page.js, /page.css, /favicon.svg
 *   GET  /api/history  everything so far, as JSON (update.ts)
 *   GET  /api/events   Server-Sent Events: `history` once, then a `delta` whenever something changed
 *   POST /api/predict  one image, C · H · W bytes → { probabilities } of the classes, with the current weights
 *
 * docs/monitoring.md
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { imageBytes } from '../../model/lenet.js';
import { systemClock, type Clock } from '../../shared/clock.js';
import type { EvaluationDone, Observer, StepDone } from '../events.js';
import { EventStream } from './event-stream.js';
import { RunHistory, type EvaluationDetail } from './history.js';
import { answerText, PageAssets } from './page-assets.js';
import { DEADLINES } from '../../shared/deadlines.js';
import { TokenBucket } from '../../shared/token-bucket.js';
import { findWorstMistakes, type Predict } from './worst-mistakes.js';

/** Across all pages, and per address. */
const PREDICTIONS_PER_SECOND = 200;
const PREDICTIONS_PER_SECOND_AND_ADDRESS = 50;
const MAX_ADDRESSES = 1000;
const MAX_PREDICTIONS_IN_FLIGHT = 16;
/** Minimum interval between updates of the weights for `predict`. */
const PARAMS_FRESH_MS = 250;
/** Minimum interval between encodings of `/api/history`. */
const HISTORY_FRESH_MS = 250;

const FILES = {
  '/': 'index.html',
  '/page.js': 'page.js',
  '/page.css': 'page.css',
  '/favicon.svg': 'favicon.svg',
} as const;

export interface MonitorOptions {
  /** Null if there are no weights; the page then has no canvas. */
  readonly predict: Predict | null;
  /** Copies θ (P,) for `predict`; called a few times per second during the run. */
  readonly setParams?: (params: Float32Array) => void;
  /** False if the run is shown from its files. */
  readonly isLive?: boolean;
  /** Whether browsers may join the run. */
  readonly takesBrowsers?: boolean;
  /** Where the build put the page's files. */
  readonly pageDirectory?: URL;
  readonly clock?: Clock;
}

export interface Monitor {
  readonly observe: Observer;
  /** Answers a request if its path is one of the monitor's. @returns whether it was */
  handle(request: IncomingMessage, response: ServerResponse): boolean;
  /** Ends all streams, after sending what is pending. */
  close(): void;
}

export function createMonitor(options: MonitorOptions): Monitor {
  const { predict, setParams, isLive = true, takesBrowsers = false, clock = systemClock } = options;
  const history = new RunHistory({ canPredict: predict !== null, isLive, takesBrowsers });
  const stream = new EventStream(history, clock);
  const assets = new PageAssets(options.pageDirectory);
  const closing = new AbortController();
  let totalSteps = 0;
  /** Size of one image; null before the run has begun. */
  let numBytes: number | null = null;
  let paramsAt = -Infinity;
  let examined: EvaluationDetail | null = null;
  let examination = new AbortController();

  /** Ranks the mistakes of the last evaluation, if any page is open to show them. */
  const examine = () => {
    const { detail } = history;
    if (!predict || !detail || detail === examined || stream.size === 0) return;
    examined = detail;
    examination.abort();
    examination = new AbortController();
    const signal = AbortSignal.any([examination.signal, closing.signal]);
    findWorstMistakes(detail, predict, () => clock.yield(), signal).then(
      (mistakes) => {
        if (!mistakes) return;
        history.setMistakes(mistakes);
        stream.changed();
      },
      // The engine is shutting down; the page does without.
      () => (examined = null),
    );
  };

  /** Passes the event's weights on for `predict`, if it has any and an update is due. */
  const freshen = ({ type, params, globalStep, time }: StepDone | EvaluationDone) => {
    const isLast = type === 'evaluation' || globalStep + 1 === totalSteps;
    if (params.length === 0 || (!isLast && time - paramsAt < PARAMS_FRESH_MS)) return;
    setParams?.(params);
    paramsAt = time;
  };

  const serveHistory = cached(HISTORY_FRESH_MS, clock, () =>
    Buffer.from(JSON.stringify(history.snapshot(clock.now()))),
  );
  const servePrediction = predict && predictionHandler(predict, () => numBytes, clock);

  const routes: Readonly<Record<string, Route>> = {
    '/api/history': {
      methods: ['GET', 'HEAD'],
      answer(request, response) {
        const body = serveHistory();
        response.writeHead(200, {
          'Content-Type': 'application/json; charset=utf-8',
          'Cache-Control': 'no-store',
          'Content-Length': body.length,
        });
        response.end(request.method === 'HEAD' ? undefined : body);
      },
    },
    '/api/events': {
      methods: ['GET'],
      answer(_request, response) {
        if (closing.signal.aborted || !stream.add(response)) {
          answerText(response, 503, 'Too many pages are open', { 'Retry-After': '10' });
          return;
        }
        examine();
      },
    },
    '/api/predict': {
      methods: ['POST'],
      answer(request, response) {
        if (servePrediction) servePrediction(request, response);
        else answerText(response, 404, 'This run has no weights');
      },
    },
  };

  return {
    observe(event) {
      history.observe(event);
      stream.changed();
      if (event.type === 'started') {
        totalSteps = event.totalSteps;
        numBytes = imageBytes(event.input);
        if (event.params) setParams?.(event.params);
      }
      if (event.type === 'evaluation' || event.type === 'step') freshen(event);
      if (event.type === 'evaluation') examine();
    },
    handle(request, response) {
      const [path] = (request.url ?? '').split('?', 1);
      const asset = Object.hasOwn(FILES, path) ? FILES[path as keyof typeof FILES] : null;
      const route = Object.hasOwn(routes, path) ? routes[path] : null;
      if (!asset && !route) return false;
      const methods = route?.methods ?? ['GET', 'HEAD'];
      if (!methods.includes(request.method ?? '')) {
        answerText(response, 405, `Use ${methods.join(' or ')}`, { Allow: methods.join(', ') });
      } else if (asset) {
        assets.serve(asset, request, response);
      } else {
        route?.answer(request, response);
      }
      return true;
    },
    close() {
      closing.abort();
      stream.close();
    },
  };
}

interface Route {
  readonly methods: readonly string[];
  answer(request: IncomingMessage, response: ServerResponse): void;
}

/** Makes a new value at most once per `freshMs`. */
function cached<T>(freshMs: number, clock: Clock, make: () => T): () => T {
  let value: T | undefined;
  let madeAt = -Infinity;
  return () => {
    const now = clock.now();
    if (value === undefined || now - madeAt >= freshMs) {
      value = make();
      madeAt = now;
    }
    return value;
  };
}

function predictionHandler(
  predict: Predict,
  imageBytesNow: () => number | null,
  clock: Clock,
): Route['answer'] {
  const all = new TokenBucket(PREDICTIONS_PER_SECOND, PREDICTIONS_PER_SECOND / 4);
  const byAddress = new Map<string, TokenBucket>();
  let numInFlight = 0;

  const isAllowed = (address: string) => {
    const now = clock.now();
    let bucket = byAddress.get(address);
    if (!bucket) {
      if (byAddress.size >= MAX_ADDRESSES) byAddress.clear();
      const perSecond = PREDICTIONS_PER_SECOND_AND_ADDRESS;
      bucket = new TokenBucket(perSecond, perSecond);
      byAddress.set(address, bucket);
    }
    return numInFlight < MAX_PREDICTIONS_IN_FLIGHT && bucket.take(now) && all.take(now);
  };

  const answer = async (
    request: IncomingMessage,
    response: ServerResponse,
    expectedBytes: number,
  ) => {
    const image = await readImage(request, expectedBytes, clock);
    if (!image) {
      answerText(response, 400, `Expected ${expectedBytes} bytes`);
      return;
    }
    const probabilities = await predict(image);
    response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
    response.end(JSON.stringify({ probabilities: Array.from(probabilities) }));
  };

  return (request, response) => {
    const expectedBytes = imageBytesNow();
    if (expectedBytes === null) {
      answerText(response, 503, 'The run has not begun', { 'Retry-After': '1' });
      return;
    }
    const numBytes = request.headers['content-length'];
    if (numBytes !== undefined && numBytes !== String(expectedBytes)) {
      answerText(response, 413, `Expected ${expectedBytes} bytes, got ${numBytes}`);
      return;
    }
    if (!isAllowed(request.socket.remoteAddress ?? '')) {
      answerText(response, 429, 'Too many images at once', { 'Retry-After': '1' });
      return;
    }
    numInFlight += 1;
    answer(request, response, expectedBytes)
      .catch(() => {
        if (!response.headersSent) answerText(response, 503, 'Cannot classify at the moment');
      })
      .finally(() => (numInFlight -= 1));
  };
}

/** The body if it is exactly one image and arrives in time, else null. */
function readImage(
  request: IncomingMessage,
  numBytes: number,
  clock: Clock,
): Promise<Uint8Array | null> {
  return new Promise((resolve) => {
    const image = new Uint8Array(numBytes);
    let length = 0;
    const finish = (result: Uint8Array | null) => {
      timer.cancel();
      request.removeAllListeners('data');
      resolve(result);
    };
    const timer = clock.schedule(DEADLINES.requestMs, () => finish(null));
    request.on('data', (chunk: Buffer) => {
      if (length + chunk.length > numBytes) {
        finish(null);
        return;
      }
      image.set(chunk, length);
      length += chunk.length;
    });
    request.on('end', () => finish(length === numBytes ? image : null));
    request.on('error', () => finish(null));
    request.on('close', () => finish(null));
  });
}
