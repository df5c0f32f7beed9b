/** metrics.jsonl: one line per step and per evaluation, in the format of ../run/metrics-line.ts. */
import { truncate } from 'node:fs/promises';
import { createAppendFile } from '../../shared/node/append-file.js';
import { linesOf } from '../../shared/node/input-file.js';
import type { Observer } from '../events.js';
import { MAX_LINE_BYTES, textOfLine, updatesBefore } from '../run/metrics-line.js';

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
  /**
   * The first step to come of a resumed run: lines of later updates are removed, since those steps will be done
   * again. Without it the file begins anew.
   */
  readonly truncateToStep?: number;
}

/**
 * @throws {Error} of the file system, if an existing file cannot be read or cut
 */
export async function createMetricsFile(
  path: string,
  options: MetricsFileOptions,
): Promise<MetricsFile> {
  const { warn, truncateToStep } = options;
  if (truncateToStep !== undefined) await cutMetrics(path, truncateToStep);
  const file = createAppendFile(path, { warn, truncate: truncateToStep === undefined });
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
 * Cuts the file after the last line of an update that a run resumed at `globalStep` will not make again: lines stand in
 * the order of updates. A line torn when the coordinator died is cut off likewise; one that cannot be read between others stays,
 * and is skipped by whoever reads the file.
 */
async function cutMetrics(path: string, globalStep: number): Promise<void> {
  let [numBytes, keptBytes] = [0, 0];
  try {
    for await (const line of linesOf(path, MAX_LINE_BYTES)) {
      const updates = line?.at(-1) === NEWLINE ? updatesBefore(line.toString()) : null;
      if (line === null || (updates !== null && updates > globalStep)) break;
      numBytes += line.length;
      if (updates !== null) keptBytes = numBytes;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  await truncate(path, keptBytes);
}
