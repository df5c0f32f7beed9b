/**
 * Exports the model of a run for its page, during training and afterwards, from the checkpoints in its directory.
 *
 *   GET /api/exports                                  { formats, checkpoints } currently available, as JSON
 *   GET /api/export?format=onnx&checkpoint=best       a ZIP archive with the files and the model card
 *
 * Requests pass the gate first.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { findCheckpoint, readLatestCheckpoint } from '../../model/checkpoint.js';
import { zipOf } from '../../model/data/zip.js';
import { EXPORT_FORMATS, type ExportFormat } from '../../model/export/format.js';
import { systemClock, type Clock } from '../../shared/clock.js';
import { UserError } from '../../shared/errors.js';
import { fileStorage } from '../../shared/node/storage.js';
import { TokenBucket } from '../../shared/token-bucket.js';
import { answerText } from './page-assets.js';

/** Across all pages, because each export holds the training up for a moment. */
const EXPORTS_PER_SECOND = 1;
const MAX_BURST = 4;
const CHECKPOINTS = ['best', 'latest'] as const;

export interface Downloads {
  /** Answers a request if its path is one of these. @returns whether it was */
  handle(request: IncomingMessage, response: ServerResponse): boolean;
}

/**
 * @param checkpointsPath the run's folder of checkpoints, which need not exist yet
 * @param name of the run, for file names
 */
export function createDownloads(
  checkpointsPath: string,
  name: string,
  clock: Clock = systemClock,
): Downloads {
  const bucket = new TokenBucket(EXPORTS_PER_SECOND, MAX_BURST);
  let isBusy = false;

  const list = async (response: ServerResponse) => {
    const names = await fileStorage.list(checkpointsPath);
    const isThere = {
      best: names.includes('best.safetensors'),
      latest: names.some((file) => file.startsWith('step-') && file.endsWith('.safetensors')),
    };
    const checkpoints = CHECKPOINTS.filter((checkpoint) => isThere[checkpoint]);
    response.writeHead(200, {
      'Content-Type': 'application/json; charset=utf-8',
      'Cache-Control': 'no-store',
    });
    response.end(JSON.stringify({ formats: EXPORT_FORMATS, checkpoints }));
  };

  const send = async (response: ServerResponse, format: ExportFormat, which: string) => {
    const stored =
      which === 'best'
        ? await findCheckpoint(fileStorage, join(checkpointsPath, 'best.safetensors'), ignore)
        : await readLatestCheckpoint(fileStorage, checkpointsPath, ignore);
    if (stored === null) throw new UserError('no checkpoint is there yet');
    // Loaded on demand: a run itself does not need it.
    const { exportModel } = await import('../../model/export/export.js');
    const zip = zipOf(exportModel(stored.checkpoint, [format]));
    const base = name.replace(/[^\w.-]/g, '_').slice(0, 100);
    const file = `${base}-step-${stored.checkpoint.globalStep}-${format}.zip`;
    response.writeHead(200, {
      'Content-Type': 'application/zip',
      'Content-Disposition': `attachment; filename="${file}"`,
      'Content-Length': zip.length,
      'Cache-Control': 'no-store',
    });
    response.end(zip);
  };

  const answer = (response: ServerResponse, work: Promise<void>) =>
    work.catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else if (error instanceof UserError) answerText(response, 404, 'No such checkpoint yet');
      else answerText(response, 503, 'Cannot export at the moment');
    });

  return {
    handle(request, response) {
      const [path, query = ''] = (request.url ?? '').split('?', 2);
      if (path !== '/api/exports' && path !== '/api/export') return false;
      if (request.method !== 'GET') {
        answerText(response, 405, 'Use GET', { Allow: 'GET' });
        return true;
      }
      if (path === '/api/exports') {
        void answer(response, list(response));
        return true;
      }
      const asked = new URLSearchParams(query);
      const format = EXPORT_FORMATS.find((one) => one === asked.get('format'));
      const which = CHECKPOINTS.find((one) => one === (asked.get('checkpoint') ?? 'best'));
      if (format === undefined || which === undefined) {
        const formats = EXPORT_FORMATS.join(', ');
        answerText(response, 400, `Expected a format of ${formats}, and checkpoint=best or latest`);
        return true;
      }
      if (isBusy || !bucket.take(clock.now())) {
        answerText(response, 429, 'Too many downloads at once', { 'Retry-After': '2' });
        return true;
      }
      isBusy = true;
      void answer(response, send(response, format, which)).finally(() => (isBusy = false));
      return true;
    },
  };
}

function ignore(): void {
  // An older checkpoint will do.
}
