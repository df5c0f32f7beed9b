/**
 * Finished runs in the browser: a page for each, and one that compares them if there are several.
 *
 *   GET /              the run's page if there is only one run, else the comparison
 *   GET /api/runs      every run's history, as JSON, for the comparison
 *   GET /runs/N/…      the page of run N (counted from 0), as monitor.ts serves it
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RunEvent } from '../events.js';
import { createDownloads } from './downloads.js';
import { RunHistory } from './history.js';
import { createMonitor, type Monitor } from './monitor.js';
import { answerText, PageAssets } from './page-assets.js';
import type { StoredRun } from '../run/stored-run.js';
import type { Update } from './update.js';

const COMPARISON_FILES = {
  '/': 'compare.html',
  '/compare.js': 'compare.js',
  '/page.css': 'page.css',
  '/favicon.svg': 'favicon.svg',
} as const;

export interface BoardOptions {
  readonly pageDirectory?: URL;
}

export interface Board {
  /** Answers a request if its path is one of the board's. @returns whether it was */
  handle(request: IncomingMessage, response: ServerResponse): boolean;
  close(): void;
}

type Page = Pick<Monitor, 'handle'>;

/** Reads the runs, which takes a moment; they are then served from memory. */
export async function createBoard(
  runs: readonly StoredRun[],
  options: BoardOptions = {},
): Promise<Board> {
  const monitors: Monitor[] = [];
  const pages: Page[] = [];
  const snapshots: Update[] = [];
  for (const run of runs) {
    const { engine, checkpointsPath, name } = run;
    const downloads = createDownloads(checkpointsPath, name);
    const monitor = createMonitor({
      ...options,
      predict: engine && ((image) => engine.predict(image)),
      isLive: false,
    });
    const history = new RunHistory({ canPredict: false, isLive: false });
    let endedAt = 0;
    await run.replay((event: RunEvent) => {
      monitor.observe(event);
      history.observe(event);
      endedAt = event.time;
    });
    monitors.push(monitor);
    pages.push({
      handle: (request, response) =>
        monitor.handle(request, response) || downloads.handle(request, response),
    });
    snapshots.push(history.snapshot(endedAt));
  }
  const close = () => monitors.forEach((monitor) => monitor.close());
  const [only] = pages;
  if (pages.length === 1) {
    return { handle: (request, response) => only.handle(request, response), close };
  }
  return { handle: comparisonHandler(pages, snapshots, options), close };
}

function comparisonHandler(
  pages: readonly Page[],
  snapshots: readonly Update[],
  { pageDirectory }: BoardOptions,
): Board['handle'] {
  const assets = new PageAssets(pageDirectory);
  const json = Buffer.from(JSON.stringify(snapshots.map(withoutPictures)));
  return (request, response) => {
    const url = request.url ?? '';
    const ofRun = /^\/runs\/(\d{1,4})(\/.*)$/.exec(url);
    const page = ofRun ? pages.at(Number(ofRun[1])) : undefined;
    if (ofRun && page) {
      request.url = ofRun[2];
      const isAnswered = page.handle(request, response);
      request.url = url;
      return isAnswered;
    }
    const [path] = url.split('?', 1);
    const file = Object.hasOwn(COMPARISON_FILES, path)
      ? COMPARISON_FILES[path as keyof typeof COMPARISON_FILES]
      : null;
    if (!file && path !== '/api/runs') return false;
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      answerText(response, 405, 'Use GET or HEAD', { Allow: 'GET, HEAD' });
    } else if (file) {
      assets.serve(file, request, response);
    } else {
      response.writeHead(200, {
        'Content-Type': 'application/json; charset=utf-8',
        'Cache-Control': 'no-store',
        'Content-Length': json.length,
      });
      response.end(request.method === 'HEAD' ? undefined : json);
    }
    return true;
  };
}

/** Only what the comparison shows. */
function withoutPictures(update: Update) {
  const { now, state, globalStep, canPredict, isLive, run, points, evaluations, result } = update;
  return { now, state, globalStep, canPredict, isLive, run, points, evaluations, result };
}
