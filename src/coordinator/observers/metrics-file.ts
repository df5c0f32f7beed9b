/** metrics.jsonl: one line per step and per evaluation, in the format of ../run/metrics-line.ts. */
import { truncate } from 'node:fs/promises';
import { createAppendFile } from '../../shared/node/append-file.js';
import { linesOf } from '../../shared/node/input-file.js';
import type { Observer } from '../events.js';
import { MAX_LINE_BYTES, placeOf, textOfLine } from '../run/metrics-line.js';

const NEWLINE = 10;

export interface MetricsFile {
  readonly observe: Observer;
  /** Resolves when all lines so far are with the operating system: before a checkpoint, so that none is missing. */
  flush(): Promise<void>;
  /** Flushes and closes. Does not reject. */
  close(): Promise<void>;
  /** Lines lost to a full disk. */
  readonly numDropped: number;
}

export interface MetricsFileOptions {
  /** Told when the disk does not take the lines, and when it does again. */
  readonly warn: (message: string) => void;
  /** Where a resumed run goes on: lines of what it does again are removed. Without it the file begins anew. */
  readonly resumeAt?: ResumePoint;
}

interface ResumePoint {
  /** The first step to come. */
  readonly globalStep: number;
  /** Of the last evaluation that was complete. */
  readonly evaluatedStep: number;
}

/**
 * @throws {Error} of the file system, if an existing file cannot be read or cut
 */
export async function createMetricsFile(
  path: string,
  options: MetricsFileOptions,
): Promise<MetricsFile> {
  const { warn, resumeAt } = options;
  if (resumeAt) await cutMetrics(path, resumeAt);
  const file = createAppendFile(path, { warn, truncate: !resumeAt });
  return {
    observe(event) {
      if (event.type === 'step' || event.type === 'evaluation') file.append(textOfLine(event));
    },
    flush: () => file.flush(),
    close: () => file.close(),
    get numDropped() {
      return file.numDropped;
    },
  };
}

/**
 * Cuts the file before the first line of what a resumed run will do again: lines stand in the order of updates. A line torn
 * when the coordinator died is cut off likewise; one that cannot be read between others stays, and is skipped by whoever reads
 * the file.
 */
async function cutMetrics(path: string, { globalStep, evaluatedStep }: ResumePoint): Promise<void> {
  let [numBytes, keptBytes] = [0, 0];
  try {
    for await (const line of linesOf(path, MAX_LINE_BYTES)) {
      const place = line?.at(-1) === NEWLINE ? placeOf(line.toString()) : null;
      if (line === null) break;
      if (place) {
        const { type, numUpdates } = place;
        if (numUpdates > globalStep) break;
        // One of the sets, before the evaluation was broken off.
        if (type === 'evaluation' && numUpdates > evaluatedStep) break;
      }
      numBytes += line.length;
      if (place) keptBytes = numBytes;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  await truncate(path, keptBytes);
}
